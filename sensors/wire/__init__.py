"""Wire formats: bytes of devices to readings and back, used by both ends. One module a format, ``hj212`` a package.

Pure: sockets and brokers are in ``ingest.sources``.
"""
