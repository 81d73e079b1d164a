"""Ingest on several machines: the stations in partitions, a stream for each, and one worker at a time that owns it.

The bridge writes messages into the streams, workers run the ordinary pipeline on the partitions they hold a lease of.
Not here: decoding, checks and storing, which know nothing of it. Only ``riverchief`` imports it.
"""
