"""What a rule on trial found beside the version in force: counts of both, and what only one of them found. Pure."""

from bisect import bisect_right
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from infra.times import DAY_MS, beijing
from ingest.state.rule_trials import MAX_FINDINGS, Trial, TrialFinding

NIGHT_HOURS = (22, 7)
"""The hours of the night, Beijing time: pages then wake people."""


@dataclass(frozen=True, slots=True)
class VersionFindings:
    """What one version found during a trial."""

    findings: int
    a_week: float
    at_night: int
    by_station: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Comparison:
    """The findings of both versions; those of one station and parameter that overlap in time are the same.

    ``both`` counts the findings of the candidate that the version in force found, too; the newest come first.
    ``cut`` where there were more than are compared.
    """

    in_force: VersionFindings
    candidate: VersionFindings
    both: tuple[TrialFinding, ...]
    only_candidate: tuple[TrialFinding, ...]
    only_in_force: tuple[TrialFinding, ...]
    cut: bool

    @property
    def stations(self) -> tuple[str, ...]:
        """The stations where either found something, most first."""
        ours, theirs = self.candidate.by_station, self.in_force.by_station
        return tuple(sorted(ours.keys() | theirs.keys(), key=lambda s: (-ours.get(s, 0), -theirs.get(s, 0), s)))


def compare(trial: Trial, found: Sequence[TrialFinding], now_ms: int) -> Comparison:
    """Compare what both versions found during a trial."""
    candidate = [one for one in found if one.candidate]
    in_force = [one for one in found if not one.candidate]
    # a week is not extrapolated from some minutes
    weeks = max(trial.end_ms(now_ms) - trial.begun_at_ms, DAY_MS) / (7 * DAY_MS)
    theirs, ours = _by_series(in_force), _by_series(candidate)
    met = [(one, _is_among(one, theirs)) for one in candidate[::-1]]
    return Comparison(
        _counted(in_force, weeks),
        _counted(candidate, weeks),
        tuple(one for one, is_both in met if is_both),
        tuple(one for one, is_both in met if not is_both),
        tuple(one for one in in_force[::-1] if not _is_among(one, ours)),
        len(found) >= MAX_FINDINGS,
    )


def at_night(at_ms: int) -> bool:
    """Whether an instant is at night in Beijing."""
    hour = int(beijing(at_ms, "%H"))
    return hour >= NIGHT_HOURS[0] or hour < NIGHT_HOURS[1]


def _by_series(found: Sequence[TrialFinding]) -> dict[tuple[str, str], list[TrialFinding]]:
    series: dict[tuple[str, str], list[TrialFinding]] = {}
    for one in sorted(found, key=_since):
        series.setdefault((one.station, one.parameter), []).append(one)
    return series


def _is_among(one: TrialFinding, others: Mapping[tuple[str, str], Sequence[TrialFinding]]) -> bool:
    """Whether one of the others overlaps; those of one series follow each other, so that the last to begin decides."""
    series = others.get((one.station, one.parameter), ())
    begun = len(series) if one.ended_ms is None else bisect_right(series, one.ended_ms, key=_since)
    last = series[begun - 1] if begun else None
    return last is not None and (last.ended_ms is None or one.since_ms <= last.ended_ms)


def _since(one: TrialFinding) -> int:
    return one.since_ms


def _counted(found: Sequence[TrialFinding], weeks: float) -> VersionFindings:
    night = sum(at_night(one.first_ms) for one in found)
    return VersionFindings(len(found), round(len(found) / weeks, 2), night, Counter(one.station for one in found))
