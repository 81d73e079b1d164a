"""What people and systems ask: the REST API, the console, later the field app and the public page.

Reads through the ports that ``ingest`` writes through. May import ``ingest``, ``governance`` and ``sensors``.
"""
