"""One detector a file: pure functions over columns of readings, its constants at the top.

The table in :mod:`sensors.quality` says which file detects what; :mod:`sensors.quality.engine` runs those of single
series. No detector imports the engine.
"""
