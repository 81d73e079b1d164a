"""Standards: the printed table as data, and beside it the functions that read it.

``gb3838`` classes of surface water (地表水环境质量标准), ``black_odorous`` limits of urban creeks (城市黑臭水体),
``hj915`` limits of checks, ``oxygen`` saturation. The class shown now is not a standard: :mod:`sensors.live_class`.
Pure: no clock, no network, no database; callers bring values in the canonical units of the catalogue.
"""
