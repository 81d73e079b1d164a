"""Stored readings judged again: late readings, corrections, reviews, failed checks, visits, and withdrawals of these.

``late_readings`` and ``marks`` state which readings change; ``difference`` compares what they show before and after,
for all of them; ``past_events`` and ``station_moves`` are its event detector. ``corrections`` keeps replaced values,
``visits`` finds drift. Nothing here writes but ``corrections.keep``: the callers do (``ingest.stages``,
``ingest.ticks``).
"""
