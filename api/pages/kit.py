"""The kit ``/kit``: every shared component in each of its states, in the page's language and theme."""

from dataclasses import dataclass, replace

import numpy as np
from fastapi import APIRouter, Response

from api.pages.models import action_bar as models
from api.pages.models import series
from api.pages.models import series_chart as chart
from api.pages.models.action_bar import ActionBar, Candidate, Given, To
from api.pages.models.incident import Line, MessageStatus
from api.pages.models.overview import Data
from api.pages.models.station import Span
from api.pages.series_panel import Happening, panel
from api.pages.view import PageRoute, View, Viewing
from api.responses import answer
from governance.incidents import lifecycle
from governance.incidents.finding import Colour
from governance.incidents.model import Action, Order, Source, State
from governance.organisation.regions import Place
from governance.organisation.roles import Actor, Role
from infra.texts import Text, say
from infra.times import DAY_MS, HOUR_MS
from ingest.storage.port import Latest, Series
from sensors.reading import Flag
from sensors.standards.gb3838 import Water, WaterClass

PATH = "/kit"

router = APIRouter(include_in_schema=False, route_class=PageRoute)


@dataclass(frozen=True, slots=True)
class Age:
    """An example of an age label."""

    state: str
    at_ms: int | None
    ago_s: int


AGES = (Age(Data.NORMAL, 0, 120), Age(Data.LATE, 0, 840), Age(Data.OFFLINE, 0, 32_400), Age(Data.NEVER, None, 0))
CHARTED = {"nh3n": (0.8, 0.5), "do": (5.0, 2.5), "ph": (7.4, 0.5), "conductivity": (480.0, 90.0)}
"""Parameters of the example of a chart, with the level and the swing of each."""
SPAN = Span(1_796_000_000_000 - DAY_MS, 1_796_000_000_000, "")
FATES = ("read", "sent", "pending", "dead")
DEVICES = ("offline", "maintenance", "suspect", "late")


@router.get(PATH)
def show(v: Viewing) -> Response:
    """All components."""
    return v.render(
        "kit.html",
        classes=(*WaterClass, None),
        colours=tuple(Colour),
        ages=AGES,
        devices=DEVICES,
        span=SPAN,
        charted=",".join(CHARTED),
        bar=_action_bar(v.now_ms),
        lines=_timeline(v.now_ms),
        none_measured=lambda _: (),
    )


@router.get(PATH + "/chart")
def example(v: Viewing) -> Response:
    """A day of each parameter: a wave with a gap, a peak, a doubtful reading and a bad one."""
    panels = []
    for key, (level, swing) in CHARTED.items():
        at = np.delete(np.arange(SPAN.start_ms, SPAN.end_ms, 300_000), slice(150, 170))
        value = level + swing * np.sin(np.arange(len(at)) / 40)
        value[200:212] += 2.5 * swing
        packed = np.full(len(at), int(Flag.GOOD), np.int64)
        packed[[60, 61]], packed[110] = Flag.SUSPECT, Flag.BAD
        view = series.View(
            series=Series(at, value, value, value, np.ones(len(at), np.int64), packed, None),
            parameter=v.context.catalogue[key],
            latest=Latest("kit", key, None, None, 0, SPAN.end_ms),
            interval_s=300,
            start_ms=SPAN.start_ms,
            end_ms=SPAN.end_ms,
            limit=None,
            language=v.language,
        )
        panels.append(panel(v, view, chart.limits(key, Water.RIVER, WaterClass.IV)))
    return answer({"start": SPAN.start_ms, "end": SPAN.end_ms, "panels": panels, "happened": _happened(v)})


@router.get(PATH + "/map")
def example_map(v: Viewing) -> Response:
    """Reaches of every class, stations in every state, pennants near each other, points of each kind."""
    reaches, stations = [], []
    for i, water_class in enumerate((*WaterClass, None)):
        line = [[113.1, 23.06 - 0.01 * i], [113.13, 23.063 - 0.01 * i], [113.16, 23.06 - 0.01 * i]]
        named = {"name": v.say("kit.map_reach"), "class": int(water_class or 0)}
        reaches.append({"key": f"kit-r{i}", "line": line, **named})
        for n, state in enumerate(Data):
            at = {"lon": 113.105 + 0.012 * n, "lat": 23.0615 - 0.01 * i, "at": v.now_ms - HOUR_MS * n}
            key = f"kit-{4 * i + n}"
            station = {
                "key": key,
                "state": state,
                "class": int(water_class or 0),
                "name": v.say("kit.map_station", n=key),
            }
            stations.append({**station, **at})
    pennants = [
        {
            "id": i,
            "colour": colour,
            "title": colour,
            "stations": [],
            "lon": 113.15 + 0.004 * (i % 3),
            "lat": 23.05 - 0.01 * i,
        }
        for i, colour in enumerate((*Colour, Colour.RED))
    ]
    pennants.append({**pennants[0], "id": 9})
    points = [
        {"kind": kind, "title": kind, "lon": 113.11 + 0.008 * i, "lat": 22.995}
        for i, kind in enumerate(("outfall", "sign", "report", "hotline", "patrol", "rain"))
    ]
    return answer({"reaches": reaches, "stations": stations, "incidents": pennants, "points": points})


def _happened(v: View) -> list[Happening]:
    at = SPAN.start_ms
    sign = v.sign("incident.orange")
    return [
        Happening("incident", at + 18 * HOUR_MS, at + 19 * HOUR_MS, v.say("kit.chart_incident"), "orange", sign),
        Happening("visit", at + 9 * HOUR_MS, at + 10 * HOUR_MS, v.say("kit.chart_visit")),
        Happening("check", at + 10 * HOUR_MS, None, v.say("kit.chart_check"), passed=True),
        Happening("swap", at + 10 * HOUR_MS, None, "EX-NH-0003 → EX-NH-0007"),
    ]


def _timeline(now_ms: int) -> tuple[Line, ...]:
    """An example of a timeline: somebody wrote, a message in each state, findings that repeat and fold."""
    rule, name = say("rule_kind.threshold"), Text("甲河长（示例）", "Chief A (example)")
    words = Text("氨氮 8.27 mg/L（示例）", "ammonia 8.27 mg/L (example)")
    found = Line(1, now_ms - HOUR_MS, rule, "rule", words, times=3)
    moved, accepted = (State.REPORTED, State.ACCEPTED), say("incident.accepted", by=name, id=1)
    wrote = Line(3, now_ms - HOUR_MS // 4, name, Role.CHIEF, accepted, "已到现场（示例）", moved)
    people = zip("甲乙丙丁", FATES, strict=True)
    statuses = tuple(MessageStatus(f"{one}（示例）", fate, "sms", now_ms, 7) for one, fate in people)
    system, opened = say("audit_entry.by_riverchief"), say("messages_page.kind_opened")
    sent = Line(0, now_ms - HOUR_MS // 2, system, "", opened, sent_to=statuses)
    return wrote, sent, replace(found, folded=(found, found))


def _action_bar(now_ms: int) -> ActionBar:
    """An example of the action bar: to be dispatched by an operator, to one of two chiefs."""
    operator = Actor("示例", Role.OPERATOR)
    report = Order(Action.ACCEPT, comment="示例")
    place = Place("-", "")
    incident, _ = lifecycle.open_reported(
        report, operator, now_ms, cause="kit", colour=Colour.ORANGE, source=Source.HOTLINE, place=place
    )
    incident, _ = lifecycle.apply_action(incident, Order(Action.ACCEPT), operator, now_ms)
    region = Text("示例街道", "Example Street")
    to = To(
        candidates=(
            Candidate("甲河长（示例）", Role.CHIEF, region, 2, "ok", suggested=True),
            Candidate("乙河长（示例）", Role.CHIEF, region, 0, "none", suggested=False),
        ),
        regions=(("-", region, 0),),
    )
    suggested = Given(region="-", responsible="甲河长（示例）", department="water")
    offers, closed = models.offers(incident, operator), models.closed(incident, operator)
    return ActionBar(incident, offers, closed, to, Given(), suggested, opened="dispatch")
