"""MQTT brokers: one of our own for demo and tests, users and rights, certificates."""
