"""Standards: the printed table as data, and beside it the functions that read it.

``gb3838`` classes of surface water (地表水环境质量标准), ``live`` the class of a station or reach from its newest
good readings, ``black_odorous`` the urban black-and-odorous grade (城市黑臭水体), ``indices`` CWQI, TLI and pollution
indices, ``oxygen`` saturation.
Pure: no clock, no network, no database; whoever calls brings values in the catalogue's canonical units.
"""
