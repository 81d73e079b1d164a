"""Quality tests: series in, flags out. ``assess`` is the one entry; live ingest, replay and tables all call it."""

from sensors.quality.assess import Assessed, Carried, Tail, assess

__all__ = ["Assessed", "Carried", "Tail", "assess"]
