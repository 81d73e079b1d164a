"""The stages of the pipeline: one class in one file each, with the functions that only it needs.

A stage reads attributes of :class:`~ingest.work.Work` and writes others; its docstring names them. Only ``Commit``
writes to the database. ``ingest.pipeline`` lists the stages in order; nobody else imports them.
"""
