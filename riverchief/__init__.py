"""Wiring only: settings, the command line, the one-process mode, the demo and the benchmarks.

Everything outside this package receives what it needs as arguments; this package reads files, clocks and the
environment and hands them over.
"""

__version__ = "0.1.0"
