"""MQTT brokers: a local one for demo and tests, users and rights, certificates.

Reading messages from a broker does not belong here (`ingest.sources`).
"""
