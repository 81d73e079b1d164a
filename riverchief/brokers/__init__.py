"""MQTT brokers: a local one for demo and tests, users and rights, certificates."""
