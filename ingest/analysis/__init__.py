"""Results computed from stored readings: live classes, forecasts, source attribution, backtests, downsampling, chart
annotations.

What belongs here: periodic workers and functions that read the stores and write results beside them. What does not:
anything that an acknowledgement waits for (:mod:`ingest.pipeline`). Imported by ``api`` and ``riverchief``.
"""
