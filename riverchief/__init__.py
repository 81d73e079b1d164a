"""Wiring: settings, services, command line, brokers, backup, doctor and the demo.

Domain logic does not belong here: what judges water stands in `sensors` and `ingest`, what people do in `governance`.
May import every package but `tools`, which only ``riverchief bench`` uses; nothing imports this package.
"""

__version__ = "0.1.0"
