"""Storage of readings, the registry and the records beside them.

What belongs here: the port that every reading store implements (``port``), its adapters (``sql``, ``influx``,
``archive``, ``tiered``), the spool and client of the time-series server, and the tables of ``ingest``. What does not:
decisions about readings. Imported by the rest of ``ingest``, by ``api`` and by ``riverchief``.
"""
