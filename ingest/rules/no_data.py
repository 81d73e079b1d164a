"""Evaluate no-data rules (``[[no_data]]``): which stations, gateways and sensors are silent. Called on a timer."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from governance.incidents.finding import ConditionChange, Finding
from governance.incidents.headline import Headline
from infra.texts import Text, say
from infra.times import beijing
from ingest.rules.alarm_state import Alarm, AlarmKey
from ingest.rules.model import NoData, Rule
from ingest.rules.sentences import duration_text, station_name
from sensors.reading import Bools, Codes, Ints
from sensors.standards import gb3838
from sensors.stations import Registry, Station

PAUSE_INTERVALS = 3
"""Reporting intervals without a reading after which a station has paused."""
ANALYSER_CYCLE_S = 4 * 3600
"""Interval between results of an analyser whose deployment names no cycle, as in the national network."""
PROBE_PARAMETERS = frozenset({"ph", "do", "water_temp"})
"""Parameters of GB 3838 that a probe measures at every interval; an analyser measures the others."""


@dataclass(frozen=True, slots=True)
class LastSeen:
    """The newest reading of every series: station and parameter (n,) by position, ``newest_ms`` (n,) -1 for never.

    ``resumed_ms`` (stations,) is when each sent again after a pause; its sensors are waited for from then on.
    """

    station: Codes
    parameter: Codes
    newest_ms: Ints
    resumed_ms: Ints


@dataclass(slots=True)
class _Expected:
    """Of each series (n,) whether a rule applies, its cycle and the allowed silence; valid until registry or series
    change."""

    applies: Bools
    cycle_ms: Ints
    patience_ms: Ints


class SilenceMonitor:
    """The no-data rules.

    Parameters
    ----------
    alarms : the active alarms; the caller keeps them up to date with the findings
    rules_for : the rules that apply to a station
    resumed : (rule, gateway) → when a silent gateway sent again (ms)
    """

    def __init__(
        self,
        rules: Sequence[NoData],
        alarms: dict[AlarmKey, Alarm],
        rules_for: Callable[[Station], Sequence[Rule]],
        resumed: Mapping[tuple[str, str], int],
    ) -> None:
        self._rules = rules
        self.alarms = alarms
        self._rules_for = rules_for
        self._registry: Registry | None = None
        self._applies: dict[str, Bools] = {}
        self._expected: dict[str, _Expected] = {}
        self._gateway_resumed_ms = dict(resumed)

    def tick(
        self,
        registry: Registry,
        last_seen_ms: Ints,
        excused_ms: Ints,
        connected_since_ms: int | None,
        now_ms: int,
        sensors: LastSeen | None = None,
    ) -> list[Finding]:
        """Which stations fell silent, and which send again.

        Parameters
        ----------
        last_seen_ms : (stations,) the newest observed_at by registry position, -1 for never
        excused_ms : (stations,) until when a visit excuses silence; ``now_ms`` while it lasts
        connected_since_ms : since when the source is connected; None where it is not, and nothing is evaluated
        sensors : the newest readings by series, for rules about sensors

        A new connection, like the end of a visit, gives every station a full interval to send.
        """
        if connected_since_ms is None:
            return []
        findings: list[Finding] = []
        if registry is not self._registry:
            ids = [{one.id for one in self._rules_for(s)} for s in registry.stations]
            self._applies = {rule.id: np.array([rule.id in known for known in ids], np.bool_) for rule in self._rules}
            self._registry = registry
            self._expected = {}
        for rule in self._rules:
            if rule.sensors:
                if sensors is not None:
                    findings += self._sensor_findings(
                        rule, registry, sensors, last_seen_ms, excused_ms, connected_since_ms, now_ms
                    )
                continue
            findings += self._station_findings(rule, registry, last_seen_ms, excused_ms, connected_since_ms, now_ms)
        return findings

    def _station_findings(
        self,
        rule: NoData,
        registry: Registry,
        last_seen_ms: Ints,
        excused_ms: Ints,
        connected_since_ms: int,
        now_ms: int,
    ) -> list[Finding]:
        stations = registry.stations
        patience_ms = np.array([max(rule.intervals * s.interval_s, rule.at_least_s) * 1000 for s in stations])
        applies = self._applies[rule.id] & (last_seen_ms >= 0)
        waiting_since = np.array(
            [max(connected_since_ms, self._gateway_resumed_ms.get((rule.id, s.gateway or ""), 0)) for s in stations],
            np.int64,
        )
        silent = applies & (now_ms - np.maximum(np.maximum(last_seen_ms, waiting_since), excused_ms) > patience_ms)
        sending = applies & (now_ms - last_seen_ms <= patience_ms)
        gateways: dict[str, list[int]] = {}
        for i, s in enumerate(stations):
            if s.gateway and applies[i] and excused_ms[i] < now_ms:
                gateways.setdefault(s.gateway, []).append(i)
        findings = []
        explained: set[int] = set()
        for gateway, members in gateways.items():
            if len(members) > 1:
                found, by_gateway = self._gateway_findings(
                    rule, gateway, members, stations, last_seen_ms, silent, sending, now_ms
                )
                findings += found
                explained |= by_gateway
        for i in map(int, np.flatnonzero(silent | sending)):
            s = stations[i]
            alarm = self._active(rule, s.key, f"silence:{s.key}")
            if sending[i] and alarm:
                text = say("finding.reporting", station=station_name(s), at=beijing(int(last_seen_ms[i])))
                findings.append(_silence_over(rule, s.key, alarm, int(last_seen_ms[i]), text))
            elif silent[i] and not alarm and i not in explained and rule.when.covers(now_ms):
                findings.append(_station_silent(rule, s, int(last_seen_ms[i]), int(patience_ms[i])))
        return findings

    def _gateway_findings(
        self,
        rule: NoData,
        gateway: str,
        members: Sequence[int],
        stations: Sequence[Station],
        last_seen_ms: Ints,
        silent: Bools,
        sending: Bools,
        now_ms: int,
    ) -> tuple[list[Finding], set[int]]:
        """The findings about a gateway, and its stations whose silence is, or may yet turn out to be, the gateway's."""
        if alarm := self._active(rule, gateway, f"silence:gateway:{gateway}"):
            if not sending[list(members)].any():
                return [], set(members)
            newest = self._gateway_resumed_ms[rule.id, gateway] = int(last_seen_ms[list(members)].max())
            text = say("finding.gateway_reporting", gateway=gateway, at=beijing(newest))
            # its other stations have a full interval from here on
            return [_silence_over(rule, gateway, alarm, newest, text)], set(members)
        all_silent = bool(silent[list(members)].all())
        unreported = [i for i in members if self._active(rule, stations[i].key, f"silence:{stations[i].key}") is None]
        if all_silent and len(unreported) > 1 and rule.when.covers(now_ms):
            found = _gateway_silent(rule, gateway, [stations[i] for i in unreported], last_seen_ms[unreported])
            return [found], set(members)
        if all_silent or not silent[list(members)].any():
            return [], set()
        last = last_seen_ms[list(members)].max()  # the others may not be due yet
        spread = 1000 * max(stations[i].interval_s for i in members)
        return [], {i for i in members if silent[i] and last - last_seen_ms[i] < spread}

    def _sensor_findings(
        self,
        rule: NoData,
        registry: Registry,
        sensors: LastSeen,
        last_seen_ms: Ints,
        excused_ms: Ints,
        connected_since_ms: int,
        now_ms: int,
    ) -> list[Finding]:
        """Sensors that are silent while their station sends; a silent station explains all of its sensors."""
        expected = self._expected.get(rule.id)
        if expected is None or len(expected.applies) != len(sensors.station):
            expected = self._expected[rule.id] = self._expectations(rule, registry, sensors, now_ms)
        stations, names = registry.stations, registry.catalogue.parameters
        where = sensors.station
        spacing = np.array([s.interval_s for s in stations], np.int64) * 1000
        station_sends = (now_ms - last_seen_ms <= PAUSE_INTERVALS * spacing)[where] & (sensors.newest_ms >= 0)
        since = np.maximum(np.maximum(sensors.resumed_ms, excused_ms)[where], connected_since_ms)
        waiting = now_ms - np.maximum(sensors.newest_ms, since) > expected.patience_ms
        findings = []
        for i in np.flatnonzero(expected.applies & station_sends & waiting).tolist():
            station, parameter = stations[where[i]], names[sensors.parameter[i]]
            cause = f"silence:{station.key}:{parameter.key}"
            if (rule.id, station.key, parameter.key) in self.alarms or not rule.when.covers(now_ms):
                continue
            newest_ms, cycle = int(sensors.newest_ms[i]), duration_text(int(expected.cycle_ms[i]))
            names_of_series = {"station": station_name(station), "parameter": Text(parameter.zh, parameter.en)}
            text = say("finding.sensor_silent", since=beijing(newest_ms), interval=cycle, **names_of_series)
            about = Headline(
                station_name(station), say("headline.sensor_silent", parameter=names_of_series["parameter"])
            )
            at_ms = newest_ms + int(expected.patience_ms[i])
            findings.append(_silent(rule, station.key, cause, newest_ms, at_ms, text, about, parameter.key))
        on = {(key[1], key[2]): alarm for key, alarm in self.alarms.items() if key[0] == rule.id and key[2]}
        if on:
            for i in np.flatnonzero(now_ms - sensors.newest_ms <= expected.patience_ms).tolist():
                station, parameter = stations[where[i]], names[sensors.parameter[i]]
                if alarm := on.get((station.key, parameter.key)):
                    names_of_series = {"station": station_name(station), "parameter": Text(parameter.zh, parameter.en)}
                    text = say("finding.sensor_reporting", at=beijing(int(sensors.newest_ms[i])), **names_of_series)
                    at_ms = int(sensors.newest_ms[i])
                    findings.append(_silence_over(rule, station.key, alarm, at_ms, text, parameter.key))
        return findings

    def _expectations(self, rule: NoData, registry: Registry, sensors: LastSeen, now_ms: int) -> _Expected:
        cycles, names = registry.cycles_s(now_ms), registry.catalogue.parameters
        removed = {
            (d.station, d.parameter)
            for d in sorted(registry.deployments, key=lambda d: d.since_ms)
            if d.until_ms is not None and d.until_ms <= now_ms
        } - {(d.station, d.parameter) for d in registry.deployments if d.until_ms is None}
        applies, cycle_s = [], []
        for where, code in zip(sensors.station.tolist(), sensors.parameter.tolist(), strict=True):
            station, key = registry.stations[where], names[code].key
            listed = not station.parameters or key in station.parameters
            applies.append(bool(self._applies[rule.id][where]) and listed and (station.key, key) not in removed)
            cycle_s.append(cycle_of(station, key, cycles.get(station.key, {})))
        cycle_ms = np.array(cycle_s, np.int64) * 1000
        patience_ms = np.maximum(rule.intervals * cycle_ms, rule.at_least_s * 1000).astype(np.int64)
        return _Expected(np.array(applies, np.bool_), cycle_ms, patience_ms)

    def _active(self, rule: NoData, subject: str, cause: str) -> Alarm | None:
        """The active alarm of a station or gateway; the cause tells apart a gateway named like one of its stations."""
        alarm = self.alarms.get((rule.id, subject, ""))
        return alarm if alarm and alarm.cause == cause else None


def cycle_of(station: Station, parameter: str, cycles_s: Mapping[str, int]) -> int:
    """The interval between results of a sensor in seconds: of its deployment, else the usual one of its kind."""
    analysed = gb3838.direction(parameter) is not None and parameter not in PROBE_PARAMETERS
    return cycles_s.get(parameter, max(station.interval_s, ANALYSER_CYCLE_S) if analysed else station.interval_s)


def _station_silent(rule: NoData, station: Station, last_seen_ms: int, patience_ms: int) -> Finding:
    text = say(
        "finding.silent",
        station=station_name(station),
        since=beijing(last_seen_ms),
        interval=duration_text(station.interval_s * 1000),
    )
    about = Headline(station_name(station), say("headline.silent"))
    return _silent(rule, station.key, f"silence:{station.key}", last_seen_ms, last_seen_ms + patience_ms, text, about)


def _gateway_silent(rule: NoData, gateway: str, stations: Sequence[Station], last_seen_ms: Ints) -> Finding:
    since = int(last_seen_ms.max())
    names = Text("、".join(s.zh for s in stations), ", ".join(s.en for s in stations))
    text = say("finding.gateway_silent", gateway=gateway, count=len(stations), since=beijing(since), stations=names)
    patience_ms = int(max(rule.intervals * max(s.interval_s for s in stations), rule.at_least_s) * 1000)
    about = Headline(say("headline.gateway", gateway=gateway), say("headline.gateway_silent", count=len(stations)))
    return _silent(rule, gateway, f"silence:gateway:{gateway}", since, since + patience_ms, text, about)


def _silent(
    rule: NoData,
    subject: str,
    cause: str,
    since_ms: int,
    at_ms: int,
    text: Text,
    headline: Headline,
    parameter: str | None = None,
) -> Finding:
    return rule.found(
        ConditionChange.FIRED,
        cause=cause,
        station=subject,
        parameter=parameter,
        observed_at_ms=at_ms,
        since_ms=since_ms,
        text=text,
        headline=headline,
    )


def _silence_over(
    rule: NoData, subject: str, alarm: Alarm, at_ms: int, text: Text, parameter: str | None = None
) -> Finding:
    return rule.found(
        ConditionChange.RESOLVED,
        cause=alarm.cause,
        station=subject,
        parameter=parameter,
        observed_at_ms=at_ms,
        since_ms=alarm.since_ms,
        text=text,
    )
