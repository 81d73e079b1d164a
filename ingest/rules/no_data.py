"""Who fell silent, and who speaks again. The clock asks; readings never do."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from governance.incidents.finding import Change, Finding
from governance.incidents.headline import Headline
from infra.texts import Text, say
from infra.times import beijing
from ingest.rules.alarm_state import Alarm, Key
from ingest.rules.model import NoData, Rule
from ingest.rules.sentences import duration, name
from sensors.reading import Bools, Codes, Ints
from sensors.standards import gb3838
from sensors.stations import Registry, Station

PAUSE_INTERVALS = 3
"""A station that says nothing for so many promised intervals has paused."""
ANALYSER_S = 4 * 3600
"""An analyser gives one result in so long where its deployment names no cycle, as in the national network."""
PROBED = frozenset({"ph", "do", "water_temp"})
"""Parameters with a class that a probe in the water gives at every interval."""


@dataclass(frozen=True, slots=True)
class LastSeen:
    """The newest reading of every series: station and parameter (n,) by position, ``newest_ms`` (n,) -1 for never.

    ``resumed_ms`` (stations,) is when each spoke again after a pause: its sensors have their turn before them.
    """

    station: Codes
    parameter: Codes
    newest_ms: Ints
    resumed_ms: Ints


@dataclass(slots=True)
class _Expected:
    """Of each series whether a rule waits for it, and for how long; as long as neither registry nor series change."""

    concerned: Bools
    cycle_ms: Ints
    patience_ms: Ints


class SilenceMonitor:
    """The no-data rules. ``alarms`` are those of the engine: it keeps them up to date between two calls.

    ``speak`` names the rules that speak of a station, ``back`` tells when a (rule, gateway) spoke again, ms.
    """

    def __init__(
        self,
        rules: Sequence[NoData],
        alarms: dict[Key, Alarm],
        speak: Callable[[Station], Sequence[Rule]],
        back: Mapping[tuple[str, str], int],
    ) -> None:
        self._rules = rules
        self.alarms = alarms
        self._speak = speak
        self._registry: Registry | None = None
        self._spoken_of: dict[str, Bools] = {}
        self._expected: dict[str, _Expected] = {}
        self._back = dict(back)

    def tick(
        self,
        registry: Registry,
        heard_ms: Ints,
        excused_ms: Ints,
        connected_since_ms: int | None,
        now_ms: int,
        sensors: LastSeen | None = None,
    ) -> list[Finding]:
        """Which stations fell silent, which speak again.

        ``heard_ms`` (stations,) is the newest observed_at by registry position, -1 for never; ``excused_ms``
        (stations,) until when a visit excuses silence, ``now_ms`` while it lasts. While the source itself is not
        connected nothing is judged, and a fresh connection gives everybody a full interval to speak, as the end of a
        visit does.
        """
        if connected_since_ms is None:
            return []
        findings: list[Finding] = []
        if registry is not self._registry:
            mine = [{one.id for one in self._speak(s)} for s in registry.stations]
            self._spoken_of = {rule.id: np.array([rule.id in ids for ids in mine], np.bool_) for rule in self._rules}
            self._registry = registry
            self._expected = {}
        for rule in self._rules:
            if rule.sensors:
                if sensors is not None:
                    findings += self._sensors(rule, registry, sensors, heard_ms, excused_ms, connected_since_ms, now_ms)
                continue
            findings += self._silence(rule, registry, heard_ms, excused_ms, connected_since_ms, now_ms)
        return findings

    def _silence(
        self,
        rule: NoData,
        registry: Registry,
        heard_ms: Ints,
        excused_ms: Ints,
        connected_since_ms: int,
        now_ms: int,
    ) -> list[Finding]:
        stations = registry.stations
        patience = np.array([max(rule.intervals * s.interval_s, rule.at_least_s) * 1000 for s in stations])
        concerned = self._spoken_of[rule.id] & (heard_ms >= 0)
        since = np.array(
            [max(connected_since_ms, self._back.get((rule.id, s.gateway or ""), 0)) for s in stations], np.int64
        )
        silent = concerned & (now_ms - np.maximum(np.maximum(heard_ms, since), excused_ms) > patience)
        speaking = concerned & (now_ms - heard_ms <= patience)
        findings = []
        groups: dict[str, list[int]] = {}
        for i, s in enumerate(stations):
            if s.gateway and concerned[i] and excused_ms[i] < now_ms:
                groups.setdefault(s.gateway, []).append(i)
        grouped = {gateway: members for gateway, members in groups.items() if len(members) > 1}
        excused: set[int] = set()  # stations whose silence is, or may yet turn out to be, their gateway's
        for gateway, members in grouped.items():
            down = bool(silent[members].all())
            fresh = [i for i in members if self._known(rule, stations[i].key, f"silence:{stations[i].key}") is None]
            if alarm := self._known(rule, gateway, f"silence:gateway:{gateway}"):
                excused.update(members)  # when it speaks again its stations still have their turn before them
                if speaking[members].any():
                    newest = self._back[rule.id, gateway] = int(heard_ms[members].max())
                    text = say("finding.gateway_speaking", gateway=gateway, at=beijing(newest))
                    findings.append(_silence_over(rule, gateway, alarm, newest, text))
            elif down and len(fresh) > 1 and rule.when.covers(now_ms):
                findings.append(_gateway_silent(rule, gateway, [stations[i] for i in fresh], heard_ms[fresh]))
                excused.update(members)
            elif not down and silent[members].any():
                last = heard_ms[members].max()  # others may just not be due yet: wait for their turn
                spread = 1000 * max(stations[i].interval_s for i in members)
                excused.update(i for i in members if silent[i] and last - heard_ms[i] < spread)
        for i in map(int, np.flatnonzero(silent | speaking)):
            s = stations[i]
            alarm = self._known(rule, s.key, f"silence:{s.key}")
            if speaking[i] and alarm:
                text = say("finding.speaking", station=name(s), at=beijing(int(heard_ms[i])))
                findings.append(_silence_over(rule, s.key, alarm, int(heard_ms[i]), text))
            elif silent[i] and not alarm and i not in excused and rule.when.covers(now_ms):
                findings.append(_station_silent(rule, s, int(heard_ms[i]), int(patience[i])))
        return findings

    def _sensors(
        self,
        rule: NoData,
        registry: Registry,
        sensors: LastSeen,
        heard_ms: Ints,
        excused_ms: Ints,
        connected_since_ms: int,
        now_ms: int,
    ) -> list[Finding]:
        """Sensors that say nothing while their station speaks; a silent station explains all of its own."""
        expected = self._expected.get(rule.id)
        if expected is None or len(expected.concerned) != len(sensors.station):
            expected = self._expected[rule.id] = self._expect(rule, registry, sensors, now_ms)
        stations, names = registry.stations, registry.catalogue.parameters
        where = sensors.station
        spacing = np.array([s.interval_s for s in stations], np.int64) * 1000
        speaks = (now_ms - heard_ms <= PAUSE_INTERVALS * spacing)[where] & (sensors.newest_ms >= 0)
        since = np.maximum(np.maximum(sensors.resumed_ms, excused_ms)[where], connected_since_ms)
        waiting = now_ms - np.maximum(sensors.newest_ms, since) > expected.patience_ms
        findings = []
        for i in np.flatnonzero(expected.concerned & speaks & waiting).tolist():
            station, parameter = stations[where[i]], names[sensors.parameter[i]]
            cause = f"silence:{station.key}:{parameter.key}"
            if (rule.id, station.key, parameter.key) in self.alarms or not rule.when.covers(now_ms):
                continue
            newest_ms, cycle = int(sensors.newest_ms[i]), duration(int(expected.cycle_ms[i]))
            said = {"station": name(station), "parameter": Text(parameter.zh, parameter.en)}
            text = say("finding.sensor_silent", since=beijing(newest_ms), interval=cycle, **said)
            about = Headline(name(station), say("headline.sensor_silent", parameter=said["parameter"]))
            at_ms = newest_ms + int(expected.patience_ms[i])
            findings.append(_silent(rule, station.key, cause, newest_ms, at_ms, text, about, parameter.key))
        on = {(key[1], key[2]): alarm for key, alarm in self.alarms.items() if key[0] == rule.id and key[2]}
        if on:
            for i in np.flatnonzero(now_ms - sensors.newest_ms <= expected.patience_ms).tolist():
                station, parameter = stations[where[i]], names[sensors.parameter[i]]
                if alarm := on.get((station.key, parameter.key)):
                    said = {"station": name(station), "parameter": Text(parameter.zh, parameter.en)}
                    text = say("finding.sensor_speaking", at=beijing(int(sensors.newest_ms[i])), **said)
                    at_ms = int(sensors.newest_ms[i])
                    findings.append(_silence_over(rule, station.key, alarm, at_ms, text, parameter.key))
        return findings

    def _expect(self, rule: NoData, registry: Registry, sensors: LastSeen, now_ms: int) -> _Expected:
        cycles, names = registry.cycles_s(now_ms), registry.catalogue.parameters
        gone = {
            (d.station, d.parameter)
            for d in sorted(registry.deployments, key=lambda d: d.since_ms)
            if d.until_ms is not None and d.until_ms <= now_ms
        } - {(d.station, d.parameter) for d in registry.deployments if d.until_ms is None}
        concerned, cycle_s = [], []
        for where, code in zip(sensors.station.tolist(), sensors.parameter.tolist(), strict=True):
            station, key = registry.stations[where], names[code].key
            listed = not station.parameters or key in station.parameters
            concerned.append(bool(self._spoken_of[rule.id][where]) and listed and (station.key, key) not in gone)
            cycle_s.append(cycle_of(station, key, cycles.get(station.key, {})))
        cycle_ms = np.array(cycle_s, np.int64) * 1000
        patience_ms = np.maximum(rule.intervals * cycle_ms, rule.at_least_s * 1000).astype(np.int64)
        return _Expected(np.array(concerned, np.bool_), cycle_ms, patience_ms)

    def _known(self, rule: NoData, subject: str, cause: str) -> Alarm | None:
        """The alarm of this station or gateway; a gateway may be named like one of its stations."""
        alarm = self.alarms.get((rule.id, subject, ""))
        return alarm if alarm and alarm.cause == cause else None


def cycle_of(station: Station, parameter: str, cycles_s: Mapping[str, int]) -> int:
    """How often a sensor gives a result, in seconds: by its deployment, else as its kind usually does."""
    analysed = gb3838.direction(parameter) is not None and parameter not in PROBED
    return cycles_s.get(parameter, max(station.interval_s, ANALYSER_S) if analysed else station.interval_s)


def _station_silent(rule: NoData, station: Station, heard_ms: int, patience_ms: int) -> Finding:
    text = say(
        "finding.silent", station=name(station), since=beijing(heard_ms), interval=duration(station.interval_s * 1000)
    )
    about = Headline(name(station), say("headline.silent"))
    return _silent(rule, station.key, f"silence:{station.key}", heard_ms, heard_ms + patience_ms, text, about)


def _gateway_silent(rule: NoData, gateway: str, stations: Sequence[Station], heard_ms: Ints) -> Finding:
    since = int(heard_ms.max())
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
        Change.FIRED,
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
        Change.RESOLVED,
        cause=alarm.cause,
        station=subject,
        parameter=parameter,
        observed_at_ms=at_ms,
        since_ms=alarm.since_ms,
        text=text,
    )
