"""What happens to a reading: sources, the pipeline, stores, checks, quarantine and the loss ledger.

The core (``validate``, ``checks``) is pure; the edges are named after the thing outside. May import ``governance``
and ``sensors``.
"""
