"""Quality tests: series in, flags and events out. Pure; time comes with the readings.

What belongs here: everything that decides from readings alone whether a sensor is faulty or the water changed. What
does not: rules with limits that somebody set (``ingest.rules``), standards (``sensors.standards``), storage. Everybody
above ``sensors`` may import it; live ingest, late readings and tables run the same functions:
:func:`check_quality` for flags, ``detect_sudden_events`` and ``detect_slow_events`` for events.

=============================================  =========================================  ============================
detected                                       test, cause or result                      file in ``detectors/``
=============================================  =========================================  ============================
fault code, range, status of the device        SENTINEL, INSTRUMENT_RANGE,                ``point_tests.py``
                                               PLAUSIBLE_RANGE, DEVICE_STATUS, OVER_RANGE
one or two readings, three to five, stand out  SPIKE, BURST                               ``spikes.py``
step or noise that no other sensor shows       SHIFT, NOISE                               ``steps_and_noise.py``
repeated value                                 FLAT_LINE                                  ``flat_line.py``
stuck, other unit, wrong after a lone jump     FLAT_LINE, UNIT_MISTAKE, JUMPED_ALONE      ``lone_jumps.py``
sonde in air, cleaned, logger holds values     OUT_OF_WATER                               ``out_of_water.py``
parameters contradict each other               CROSS_CHECK                                ``cross_parameter.py``
daily swing sank                               ATTENUATED                                 ``attenuation.py``
median left the neighbouring stations          NEIGHBOURS, due for a check                ``neighbour_departure.py``
growth on a lens                               due for a check                            ``lens_fouling.py``
wrong before a visit                           DRIFT                                      ``post_visit_drift.py``
clock was set                                  shift in hours (tables)                    ``clock_shift.py``
event of minutes to hours                      acid, sewage, salt, discharge …            ``sudden_events.py``
event of hours to days                         oxygen sag, bloom, sediment …              ``slow_events.py``
the same in tidal water, at equal phase        acid, alkali, oxygen sag                   ``tide.py``
=============================================  =========================================  ============================

``engine.py`` runs the list, ``daily_pattern.py`` its daily part; ``recent_levels.py`` and ``upstream_evidence.py``
decide what counts as evidence. ``slow_hours.py``, ``slow_range.py`` and ``slow_neighbours.py`` measure the hours of
slow events; ``events.py`` names the causes. ``timeline.py`` holds the readings, ``statistics.py`` and ``moves.py``
measure them, ``thresholds.py`` draws the limits of a series from its past, ``state.py`` is that past. ``constants.py``
has what several detectors share; what one of them uses stands at the top of its file.
"""

from sensors.quality.engine import QualityResult, SeriesReadings, check_quality
from sensors.quality.state import SeriesState, StateUpdate

__all__ = ["QualityResult", "SeriesReadings", "SeriesState", "StateUpdate", "check_quality"]
