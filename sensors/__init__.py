"""Water knowledge: readings, parameters, stations, standards, quality tests, wire formats.

What belongs here: what is true of water, sensors and their messages. Pure: no clock, no network, no file
but its own tables. It imports ``infra`` alone; every package above may import it.
"""
