"""Whether an incident looks like pollution or a fault of the instruments, from facts that each point one way. Pure.

Every fact is shown with what it points to, so that a reader can follow or contradict the verdict.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from api.pages.models import gauges
from api.pages.models.gauges import Hydrology
from governance.incidents.finding import FindingKind
from governance.incidents.headline import Row, format_limit, format_value
from governance.incidents.model import Incident, Source, State
from infra.texts import Text, say
from infra.times import beijing
from sensors.parameters import Catalogue

MOST_FACTS = 10
SURE, LIKELY = 0.8, 0.5
"""Confidence of the detector from which it is called high, and medium."""
CLEAR_LEAD = 3
"""Facts more for one side than for the other from which a verdict without a detector is called sure."""


class Points(StrEnum):
    """What a fact points to."""

    POLLUTION = "pollution"
    FAULT = "fault"
    NEITHER = "neither"


class Sort(StrEnum):
    """What the verdict says."""

    POLLUTION = "pollution"
    FAULT = "fault"
    UNDECIDED = "undecided"
    REPORTED = "reported"
    EXPECTED = "expected"


@dataclass(frozen=True, slots=True)
class Fact:
    """One line of evidence: what was looked at, what was measured, what it points to."""

    what: Text
    measured: Text
    points: Points = Points.NEITHER


@dataclass(frozen=True, slots=True)
class Checked:
    """The newest check of the sensor against a standard; ``passed`` is None where that cannot be told."""

    at_ms: int
    passed: bool | None


@dataclass(frozen=True, slots=True)
class Measured:
    """What somebody measured by hand; ``beyond`` its limit, None where there is none to compare with."""

    at_ms: int
    by: str
    row: Row
    beyond: bool | None


@dataclass(frozen=True, slots=True)
class Observed:
    """What is known beside the incident itself.

    ``rows`` are the values that decided, by parameter. ``seen`` are other stations that saw it, with the instant, and
    ``quiet`` those that worked and did not. ``steps`` counts the readings from the usual level to the deciding value,
    0 where that is not known. ``flagged`` counts doubtful and bad readings around it, of ``readings``. ``moved``
    and ``unmoved`` are other parameters of the station, by whether they left their usual range since it began.
    """

    rows: tuple[Row, ...] = ()
    seen: tuple[tuple[Text, int], ...] = ()
    quiet: tuple[Text, ...] = ()
    visiting: bool = False
    checked: Checked | None = None
    steps: int = 0
    flagged: int = 0
    readings: int = 0
    hydrology: Hydrology = gauges.NOTHING
    by_hand: tuple[Measured, ...] = ()
    moved: tuple[str, ...] = ()
    unmoved: tuple[str, ...] = ()
    faults: tuple[Text, ...] = ()


@dataclass(frozen=True, slots=True)
class Verdict:
    """``confidence`` is high, medium or low, "" where there is none; ``percent`` is the detector's own."""

    sort: Sort
    confidence: str
    percent: int | None
    facts: tuple[Fact, ...]

    def count(self, points: str) -> int:
        """How many facts point there."""
        return sum(fact.points == points for fact in self.facts)

    @property
    def place(self) -> float:
        """Where it lies between fault (0) and pollution (1)."""
        for_, against = self.count(Points.POLLUTION), self.count(Points.FAULT)
        if self.percent is not None and self.sort is Sort.POLLUTION:
            return 0.5 + self.percent / 200
        return 0.5 + (for_ - against) / (2 * max(CLEAR_LEAD, for_ + against))


def judge(
    incident: Incident,
    observed: Observed,
    catalogue: Catalogue,
    settled: Text | None = None,
) -> Verdict:
    """The verdict on an incident; ``settled`` says how a doubt of the beginning ended."""
    facts = sorted(_facts(incident, observed, catalogue), key=lambda one: one.points is Points.NEITHER)
    if settled is not None:
        is_fault = incident.kind is FindingKind.DEVICE
        key = "verdict.settled_device" if is_fault else "verdict.settled_event"
        facts.insert(0, Fact(say(key), settled, Points.FAULT if is_fault else Points.POLLUTION))
    shown = tuple(facts[:MOST_FACTS])
    headline = incident.headline
    share = headline.confidence if headline is not None else None
    found = Verdict(Sort.UNDECIDED, "", None if share is None else round(100 * share), shown)
    lead = found.count(Points.POLLUTION) - found.count(Points.FAULT)
    if incident.state is State.FALSE_ALARM and incident.case.reason in {"sensor_fault", "maintenance", "calibration"}:
        return replace(found, sort=Sort.FAULT, confidence="high", percent=None)
    if incident.kind is FindingKind.FORECAST:
        return replace(found, sort=Sort.EXPECTED)
    if incident.kind in (FindingKind.DEVICE, FindingKind.NO_DATA):
        return replace(found, sort=Sort.FAULT, confidence="high" if incident.kind is FindingKind.DEVICE else "medium")
    if incident.kind is FindingKind.REPORT and not lead:
        return replace(found, sort=Sort.REPORTED)
    if not lead:
        return found
    sort = Sort.POLLUTION if lead > 0 else Sort.FAULT
    if share is not None and sort is Sort.POLLUTION:
        sure = "high" if share >= SURE else "medium" if share >= LIKELY else "low"
        return replace(found, sort=sort, confidence=sure)
    size = abs(lead)
    return replace(
        found, sort=sort, percent=None, confidence="high" if size >= CLEAR_LEAD else "medium" if size == 2 else "low"
    )


def _facts(incident: Incident, observed: Observed, catalogue: Catalogue) -> Iterator[Fact]:
    yield from _of_the_finding(incident)
    yield from _of_values(observed, catalogue)
    yield from _of_others(observed)
    yield from _of_people(observed, catalogue)
    yield from _of_instruments(observed)
    yield from _of_gauges(observed, catalogue)


def _of_the_finding(incident: Incident) -> Iterator[Fact]:
    headline = incident.headline
    if headline is not None and headline.doubtful:
        yield Fact(say("verdict.doubtful"), say("verdict.doubtful_why"), Points.FAULT)
    elif headline is not None and headline.confidence is not None:
        said = say("verdict.detector_says", what=headline.matter, percent=round(100 * headline.confidence))
        yield Fact(say("verdict.detector"), said, Points.POLLUTION)
    if incident.kind is FindingKind.NO_DATA:
        yield Fact(say("verdict.silence"), say("verdict.silence_since", at=beijing(incident.since_ms)), Points.FAULT)
    if incident.kind is FindingKind.DEVICE:
        yield Fact(say("verdict.device"), say("verdict.device_says"), Points.FAULT)
    if incident.case.source in (Source.CITIZEN, Source.HOTLINE, Source.PATROL, Source.PERSON):
        words = say(f"incident_page.source_{incident.case.source}")
        yield Fact(say("verdict.report"), words)


def _of_values(observed: Observed, catalogue: Catalogue) -> Iterator[Fact]:
    """The values that decided: several that moved together are water, one alone tells neither."""
    known = [row for row in observed.rows if row.value is not None and row.parameter in catalogue]
    together = [row.parameter for row in known] + list(observed.moved)
    several = len(together) > 1
    if several:
        names = _names(together[:4], catalogue)
        more = say("verdict.and_more", count=len(together)) if len(together) > 4 else Text("", "")
        yield Fact(say("verdict.together"), Text(names.zh + more.zh, names.en + more.en), Points.POLLUTION)
    elif len(observed.unmoved) > 1:
        said = say("verdict.quiet_parameters", names=_names(observed.unmoved[:4], catalogue))
        yield Fact(say("verdict.alone"), said, Points.FAULT)
    for row in known[:3]:
        points = Points.POLLUTION if several and row.before is not None else Points.NEITHER
        yield Fact(_name(row, catalogue), _move(row, catalogue), points)


def _names(keys: Iterable[str], catalogue: Catalogue) -> Text:
    return _listed(Text(catalogue[key].zh, catalogue[key].en) for key in keys)


def _of_others(observed: Observed) -> Iterator[Fact]:
    if observed.seen:
        names = _listed(say("verdict.seen_at", station=name, at=beijing(at, "%H:%M")) for name, at in observed.seen[:2])
        yield Fact(say("verdict.neighbours"), names, Points.POLLUTION)
    elif observed.quiet:
        said = say("verdict.quiet", stations=_listed(observed.quiet[:2]), count=len(observed.quiet))
        yield Fact(say("verdict.neighbours"), said)


def _of_people(observed: Observed, catalogue: Catalogue) -> Iterator[Fact]:
    for one in (row for row in observed.by_hand[-1:] if row.row.parameter in catalogue):
        value = _value(one.row, catalogue)
        said = say("verdict.measured_by", name=_name(one.row, catalogue), value=value, at=beijing(one.at_ms), by=one.by)
        points = Points.NEITHER if one.beyond is None else Points.POLLUTION if one.beyond else Points.FAULT
        yield Fact(say("verdict.by_hand"), said, points)


def _of_instruments(observed: Observed) -> Iterator[Fact]:
    if observed.visiting:
        yield Fact(say("verdict.instrument"), say("verdict.visiting"), Points.FAULT)
    elif observed.checked is not None:
        passed = observed.checked.passed
        key = "verdict.checked" if passed is None else "verdict.check_passed" if passed else "verdict.check_failed"
        points = Points.NEITHER if passed is None else Points.POLLUTION if passed else Points.FAULT
        yield Fact(say("verdict.instrument"), say(key, at=beijing(observed.checked.at_ms, "%m-%d")), points)
    if observed.faults:
        yield Fact(say("verdict.device"), observed.faults[0], Points.FAULT)
    if observed.steps:
        one = observed.steps == 1
        said = say("verdict.one_step") if one else say("verdict.climbed", count=observed.steps)
        yield Fact(say("verdict.shape"), said, Points.FAULT if one else Points.POLLUTION)
    if observed.readings:
        said = say("verdict.flagged" if observed.flagged else "verdict.unflagged", count=observed.flagged)
        many = observed.flagged * 5 > observed.readings
        yield Fact(say("verdict.quality"), said, Points.FAULT if many else Points.NEITHER)


def _of_gauges(observed: Observed, catalogue: Catalogue) -> Iterator[Fact]:
    """Rain, tide and gates: what may explain a move without anybody polluting, and what cannot."""
    if (said := gauges.of_rain(observed.hydrology, observed.rows, catalogue)) is not None:
        yield Fact(say("verdict.rain"), said)
    if moved := tuple(gauges.of_water(observed.hydrology)):
        yield Fact(say("verdict.water"), Text("；".join(one.zh for one in moved), "; ".join(one.en for one in moved)))


def _name(row: Row, catalogue: Catalogue) -> Text:
    one = catalogue[row.parameter]
    return Text(one.zh, one.en)


def _value(row: Row, catalogue: Catalogue) -> str:
    one = catalogue[row.parameter]
    text = "—" if row.value is None else format_value(row.value, one)
    return text if one.unit == "1" else f"{text} {one.unit}"


def _move(row: Row, catalogue: Catalogue) -> Text:
    """The value with what it was before, or with its limit."""
    one, value = catalogue[row.parameter], _value(row, catalogue)
    if row.before is not None:
        return say("verdict.moved", before=format_value(row.before, one), value=value)
    if row.limit is not None:
        return say("verdict.against_limit", value=value, limit=format_limit(row.limit))
    return Text(value, value)


def _listed(texts: Iterable[Text]) -> Text:
    found = list(texts)
    return Text("、".join(one.zh for one in found), ", ".join(one.en for one in found))


def has_moved(before: Sequence[float], since: Sequence[float], resolution: float) -> bool | None:
    """Whether a parameter left the range it had before; None where too little is known."""
    if len(before) < 6 or len(since) < 2:
        return None
    low, high = min(before), max(before)
    room = max(high - low, 4 * resolution)
    middle = sorted(since)[len(since) // 2]
    return not low - room / 2 <= middle <= high + room / 2


def steps_to(values: Sequence[float], usable: Callable[[float], bool] = lambda _: True) -> int:
    """How many readings lie between the usual level and the last of some values, oldest first: 1 is a leap.

    A reading is on the way when it has left the usual level by a tenth of the whole move. 0 where nothing moved.
    """
    known = [one for one in values if usable(one)]
    if len(known) < 6:
        return 0
    level = sorted(known[:-3])[len(known[:-3]) // 2]
    move = known[-1] - level
    spread = max(known[: len(known) // 2]) - min(known[: len(known) // 2])
    if not move or abs(move) < 2 * spread:
        return 0
    count = 0
    for one in reversed(known):
        if (one - level) / move < 0.1:
            break
        count += (one - level) / move < 0.9
    return count + 1
