"""The printed tables of HJ 212: commands, results, data flags, factor codes and the units of Table B.1.

Names of factors are those of the parameter catalogue, which holds the codes of both editions; what stands here is only
what the standard adds to them.
"""

import re
from enum import IntEnum
from typing import Final

from infra.times import MINUTE_MS
from sensors.parameters import Catalogue
from sensors.units import Linear, conversion

INTERACTION: Final = "91"
"""ST of every answer: system interaction."""


class Cn:
    """Command codes, as they stand in CN."""

    TIMEOUT = "1000"
    TIME = "1011"
    SET_TIME = "1012"
    TIME_NOTICE = "1013"
    KEY_EXCHANGE = LOGGER_TIME = "1014"
    SET_LOGGER_TIME = "1015"
    REALTIME_INTERVAL = "1061"
    SET_REALTIME_INTERVAL = "1062"
    MINUTE_INTERVAL = "1063"
    SET_MINUTE_INTERVAL = "1064"
    REALTIME = "2011"
    STOP_REALTIME = "2012"
    STATE = "2021"
    STOP_STATE = "2022"
    DAY = "2031"
    RUN_TIME = "2041"
    MINUTE = "2051"
    HOUR = "2061"
    STARTED = "2081"
    SAMPLE = "3012"
    KEEP_SAMPLE = "3015"
    DEVICE_ID = "3019"
    DEVICE_INFO = "3020"
    ACCEPTED = "9011"
    RESULT = "9012"
    NOTICE_ANSWER = "9013"
    DATA_ANSWER = "9014"
    HEARTBEAT = "9015"


PERIOD_MS: Final = {Cn.MINUTE: MINUTE_MS, Cn.HOUR: 60 * MINUTE_MS, Cn.DAY: 1440 * MINUTE_MS}
"""How long the period of a mean is. Minute data are means over 1 to 30 minutes and do not say which: the shortest is
taken, so that no mean is thought covered by readings that lie outside its period."""

DATA: Final = frozenset({Cn.REALTIME, *PERIOD_MS})
"""Commands whose items are readings."""

EVENTS: Final = {
    Cn.STATE: "device_state",
    Cn.RUN_TIME: "device_run_time",
    Cn.STARTED: "logger_started",
    Cn.DEVICE_ID: "device_id",
    Cn.DEVICE_INFO: "device_info",
    "2062": "standard_check",
    "2063": "spike_recovery",
    "2064": "parallel_sample",
    "2065": "zero_check",
    "2066": "span_check",
    "2071": "alarm",
    "2072": "alarm_event",
    "3040": "station_state",
    "3041": "station_surroundings",
}
"""Uploads that say something of the device instead of the water; each is kept as an event of its station.

2062 to 2066 are the quality-control results of surface-water stations, 3020, 3040 and 3041 what such a station says of
itself (HJ 1404, by two makers' programs; the standard's own text was not seen), 2071 and 2072 the alarms of the 2005
edition (unverified; 2017 dropped them). HJ 212-2025 uses 2062 for its automatic standard check.
"""

CHECK_FLAGS: Final = {
    "sc": "standard_check",
    "cz": "zero_check",
    "cs": "span_check",
    "ra": "spike_recovery",
    "pt": "parallel_sample",
}
"""Data flags by which stations mark the result of a check among their data: no river water."""

INFORMATION: Final = {"i11001": "device_log", "i21001": "device_log", "i12": "device_state", "i22": "device_state"}
"""Beginnings of the codes in 3020 of surface-water stations, and what they are: of an instrument (1) or the station."""

HJ1404_CLOCK: Final = {Cn.TIME: Cn.LOGGER_TIME, Cn.SET_TIME: Cn.SET_LOGGER_TIME}
"""The clock of the logger by HJ 1404, whose 1011 and 1012 mean that of an instrument."""

NOTICES: Final = frozenset({Cn.TIME_NOTICE, Cn.STOP_REALTIME, Cn.STOP_STATE, Cn.HEARTBEAT})
"""Commands that are answered by 9013 and hold nothing to store (the heartbeat of 2025 is unverified)."""

ANSWERS: Final = frozenset({Cn.ACCEPTED, Cn.RESULT, Cn.NOTICE_ANSWER, Cn.DATA_ANSWER})

ENCRYPTED_2025: Final = re.compile(r"2[0-9]{3}|1014|3020")
"""Commands whose CP the 2025 edition encrypts."""


class QnRtn(IntEnum):
    """The answer to a request (9011)."""

    WILL_EXECUTE = 1
    REFUSED = 2
    PASSWORD = 3
    MN = 4
    ST = 5
    FLAG = 6
    QN = 7
    CN = 8
    CRC = 9
    CRC_HJ1404 = 99
    """Unverified: one maker's program, in which 9 means busy."""
    UNKNOWN = 100


class ExeRtn(IntEnum):
    """The result of a request (9012)."""

    SUCCESS = 1
    FAILED = 2
    CONDITION = 3
    TIMEOUT = 4
    BUSY = 5
    FAULT = 6
    NO_DATA = 100


STANDARD_UNITS: Final = {
    "w00000": "L/s",
    "B01": "L/s",
    "w20111": "µg/L",
    "w20115": "µg/L",
    "w20117": "µg/L",
    "w20119": "µg/L",
    "w20120": "µg/L",
    "w20128": "µg/L",
}
"""Units of Table B.1 that differ from the catalogue's. (B01 of 2005 is taken to be in the unit of w00000.)"""


def meaning(code: str, catalogue: Catalogue) -> tuple[str, Linear]:
    """The parameter key of a factor code of either edition, and how its value becomes canonical.

    A code the catalogue does not know stands for itself.
    """
    parameter = catalogue.by_code.get(code)
    if parameter is None:
        return code, Linear(1.0)
    return parameter.key, conversion(STANDARD_UNITS.get(code, parameter.unit), parameter.unit)
