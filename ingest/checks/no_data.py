"""Who fell silent, and who speaks again. The clock asks; readings never do."""

from collections.abc import Callable, Sequence

import numpy as np

from governance.finding import Change, Finding, Kind
from ingest.checks.alarms import Alarm, Key
from ingest.checks.rules import NoData, Rule
from ingest.checks.wording import duration, name
from sensors.reading import Bools, Ints
from sensors.stations import Registry, Station
from sensors.texts import Text, say
from sensors.times import beijing


class Silence:
    """The no-data rules. ``alarms`` are those of the engine: it keeps them up to date between two calls.

    ``speak`` names the rules that speak of a station.
    """

    def __init__(
        self, rules: Sequence[NoData], alarms: dict[Key, Alarm], speak: Callable[[Station], Sequence[Rule]]
    ) -> None:
        self._rules = rules
        self.alarms = alarms
        self._speak = speak
        self._registry: Registry | None = None
        self._spoken_of: dict[str, Bools] = {}
        self._back: dict[tuple[str, str | None], int] = {}  # (rule, gateway) → ms when it was found speaking again

    def tick(
        self, registry: Registry, heard_ms: Ints, excused_ms: Ints, connected_since_ms: int | None, now_ms: int
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
        for rule in self._rules:
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
        since = np.array([max(connected_since_ms, self._back.get((rule.id, s.gateway), 0)) for s in stations], np.int64)
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
                    self._back[rule.id, gateway] = now_ms
                    newest = int(heard_ms[members].max())
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

    def _known(self, rule: NoData, subject: str, cause: str) -> Alarm | None:
        """The alarm of this station or gateway; a gateway may be named like one of its stations."""
        alarm = self.alarms.get((rule.id, subject, ""))
        return alarm if alarm and alarm.cause == cause else None


def _station_silent(rule: NoData, station: Station, heard_ms: int, patience_ms: int) -> Finding:
    text = say(
        "finding.silent", station=name(station), since=beijing(heard_ms), interval=duration(station.interval_s * 1000)
    )
    return _silent(rule, station.key, f"silence:{station.key}", heard_ms, heard_ms + patience_ms, text)


def _gateway_silent(rule: NoData, gateway: str, stations: Sequence[Station], heard_ms: Ints) -> Finding:
    since = int(heard_ms.max())
    names = Text("、".join(s.zh for s in stations), ", ".join(s.en for s in stations))
    text = say("finding.gateway_silent", gateway=gateway, count=len(stations), since=beijing(since), stations=names)
    patience_ms = int(max(rule.intervals * max(s.interval_s for s in stations), rule.at_least_s) * 1000)
    return _silent(rule, gateway, f"silence:gateway:{gateway}", since, since + patience_ms, text)


def _silent(rule: NoData, subject: str, cause: str, since_ms: int, at_ms: int, text: Text) -> Finding:
    return Finding(
        rule=rule.id,
        version=rule.version,
        kind=Kind.NO_DATA,
        change=Change.FIRED,
        cause=cause,
        station=subject,
        parameter=None,
        observed_at_ms=at_ms,
        since_ms=since_ms,
        value=None,
        limit=None,
        colour=rule.colour,
        retrospective=False,
        text=text,
    )


def _silence_over(rule: NoData, subject: str, alarm: Alarm, at_ms: int, text: Text) -> Finding:
    return Finding(
        rule=rule.id,
        version=rule.version,
        kind=Kind.NO_DATA,
        change=Change.RESOLVED,
        cause=alarm.cause,
        station=subject,
        parameter=None,
        observed_at_ms=at_ms,
        since_ms=alarm.since_ms,
        value=None,
        limit=None,
        colour=rule.colour,
        retrospective=False,
        text=text,
    )
