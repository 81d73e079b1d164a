"""What the pipeline keeps between batches: series history, detector state, active alarms, rule versions.

What belongs here: state that is saved with each batch and loaded after a restart. Imported by the pipeline, its stages
and the re-evaluation of late readings.
"""
