"""Wiring: settings, services, command line, brokers, backup, doctor and the demo.

Everything outside this package receives what it needs as arguments; this package reads files, clocks and the
environment and hands them over.
"""

__version__ = "0.1.0"
