"""What we know: readings, parameters, stations, standards, quality tests, wire formats.

Pure: no clock, no network, no file but its own tables. Imports nothing of ours; everybody may import it.
"""
