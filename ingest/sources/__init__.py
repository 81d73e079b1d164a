"""Sources: what receives bytes from devices and acknowledges them once they are durable.

What belongs here: connections (MQTT, HJ 212 over TCP), commands to devices, limits for unknown senders. What does not:
decoding (:mod:`sensors.wire`) and storing (:mod:`ingest.pipeline`). HTTP uploads are received in :mod:`api.routes`.
A source hands messages to :mod:`ingest.intake`; only ``riverchief`` and ``api`` use this package.
"""
