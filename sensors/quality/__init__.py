"""Quality tests: series in, flags out. ``assess`` is the one entry; live ingest, replay and tables all call it."""

from sensors.quality.assess import Assessed, assess
from sensors.quality.memory import Carried, Memory

__all__ = ["Assessed", "Carried", "Memory", "assess"]
