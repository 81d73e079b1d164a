"""Quality tests: series in, flags out. ``assess`` is the one entry; live ingest, replay and tables all call it."""

from sensors.quality.engine import QualityResult, check_quality
from sensors.quality.state import SeriesState, StateUpdate

__all__ = ["QualityResult", "SeriesState", "StateUpdate", "check_quality"]
