"""The evidence pack as a PDF: one incident on a few pages of A4, to be read without this system.

Its letters are embedded (`api.evidence.font`), or, where this machine has no Chinese font, those of the reader's own
font, and the document says so. Charts and the map are vectors drawn here from our own data.
"""

import io
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from math import cos, radians
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import numpy as np
from reportlab.graphics.shapes import Circle, Drawing, Line, PolyLine, Rect, String
from reportlab.lib import colors
from reportlab.lib.pagesizes import A4
from reportlab.lib.styles import ParagraphStyle
from reportlab.lib.units import mm
from reportlab.pdfbase.pdfmetrics import stringWidth
from reportlab.platypus import Image, KeepTogether, Paragraph, SimpleDocTemplate, Spacer, Table, TableStyle

from api.evidence import font
from api.evidence.gather import Chart, Evidence
from api.names import by_whom, rule_name
from api.titles import place, titled
from governance.incidents.file_content import PRINTED_MAX_PIXELS, small_copy
from governance.incidents.headline import COLUMNS, Headline, summary
from governance.incidents.headline import table as evidence_table
from infra.errors import WaterError
from infra.texts import Text, say
from infra.times import beijing
from sensors.network import KM_PER_DEGREE
from sensors.parameters import catalogue
from sensors.reading import Flag, unpack
from sensors.stations import Registry

FIXED = "Courier"
_SMALLEST = 6.5
_WIDTH = A4[0] - 36 * mm - 12  # what a frame leaves
_CHART_HEIGHT, _MAP_HEIGHT = 58 * mm, 70 * mm
_TIME = "%Y-%m-%d %H:%M"
_INK, _WATER, _GREY = colors.HexColor("#17302f"), colors.HexColor("#2b6f8a"), colors.HexColor("#7d8a89")
_FLAGS = {
    Flag.GOOD: colors.HexColor("#2b6f8a"),
    Flag.UNKNOWN: colors.HexColor("#7d8a89"),
    Flag.SUSPECT: colors.HexColor("#d08700"),
    Flag.BAD: colors.HexColor("#c22f2f"),
}
_COLOURS = {"red": "#c22f2f", "orange": "#d9730d", "yellow": "#b89000", "blue": "#2b6fb8"}


def typeset(found: Evidence, language: str = "zh", *, by: Text, site: str) -> bytes:
    """The pack as the bytes of a PDF, in ``language`` zh or en; ``by`` exported it, ``site`` is the site's name."""
    draft = _Pack(found, language, "Helvetica", by, site)
    draft.parts()  # tells which letters there are
    with font.chinese(draft.letters) as name:
        return _Pack(found, language, name, by, site).build()


@lru_cache(maxsize=16)
def _printed(file: Path) -> bytes:
    """A photo as it is printed; its file is named by its content, and each is asked for twice."""
    return small_copy(file.read_bytes(), PRINTED_MAX_PIXELS)


class _Pack:
    """The parts of one pack, in the order they stand."""

    def __init__(self, found: Evidence, language: str, name: str, by: Text, site: str) -> None:
        self.found = found
        self.by, self.site = by, site
        self.language = language
        self.letters: set[str] = set()
        self._font = name
        self._plain = ParagraphStyle("plain", fontName=name, fontSize=9.5, leading=14, wordWrap="CJK")
        self._small = ParagraphStyle("small", self._plain, fontSize=8, leading=11.5, textColor=_GREY)
        self._cell = ParagraphStyle("cell", self._plain, fontSize=8.5, leading=12)
        self._hash = ParagraphStyle("hash", self._cell, fontName=FIXED, fontSize=6, leading=8.5)
        self._title = ParagraphStyle("title", self._plain, fontSize=17, leading=24)
        self._alarm = ParagraphStyle("alarm", self._plain, fontSize=11, leading=16, textColor=_FLAGS[Flag.BAD])
        self._head = ParagraphStyle("head", self._plain, fontSize=12, leading=18, spaceBefore=9, textColor=_INK)

    def say(self, key: str, **values: object) -> str:
        return self.of(say(f"evidence.{key}", **values))

    def of(self, text: Text) -> str:
        return str(getattr(text, self.language))

    def build(self) -> bytes:
        out = io.BytesIO()
        title = self.say("title", id=self.found.incident.id)
        document = SimpleDocTemplate(
            out,
            pagesize=A4,
            leftMargin=18 * mm,
            rightMargin=18 * mm,
            topMargin=16 * mm,
            bottomMargin=18 * mm,
            title=title,
            author="Riverchief",
            subject=self.of(self._titled()),
        )
        document.build(self.parts(), onFirstPage=self._foot, onLaterPages=self._foot)
        return out.getvalue()

    def parts(self) -> list[Any]:
        """What stands on the pages, from the top."""
        self.letters |= {*self._made(), *self.say("page", number=0)}
        return [
            *self._header(self.say("title", id=self.found.incident.id)),
            *self._charts(),
            *self._map(),
            *self._weather(),
            *self._rule(),
            *self._timeline(),
            *self._photos(),
            *self._proof(),
            *([self._text(self.say("no_font"), self._small)] if self._font == font.READERS else []),
        ]

    def _made(self) -> str:
        return self.say("made", at=beijing(self.found.at_ms, _TIME), by=self.of(self.by) or "—", site=self.site)

    def _foot(self, canvas: Any, document: Any) -> None:
        canvas.saveState()
        canvas.setFont(self._font, 8)
        canvas.setFillColor(_GREY)
        canvas.drawString(18 * mm, 10 * mm, self._made())
        canvas.drawRightString(A4[0] - 18 * mm, 10 * mm, self.say("page", number=document.page))
        canvas.restoreState()

    # -- what happened -------------------------------------------------------------------------------------------------

    def _header(self, title: str) -> Iterable[Any]:
        i = self.found.incident
        rows = [
            ("state", self.of(say(f"state.{i.state.value}"))),
            ("colour", self.of(say(f"incident.{i.colour.value}"))),
            ("place", self._where()),
            ("since", beijing(i.since_ms, _TIME)),
            ("observed", beijing(i.observed_at_ms, _TIME)),
            ("opened", beijing(i.opened_at_ms, _TIME)),
            ("closed", "—" if i.closed_at_ms is None else beijing(i.closed_at_ms, _TIME)),
        ]
        cells = [[self._text(self.say(name), self._cell), self._text(value, self._cell)] for name, value in rows]
        half = (len(cells) + 1) // 2
        paired = [left + right for left, right in zip(cells[:half], [*cells[half:], ["", ""]], strict=False)]
        yield self._text(title, self._title)
        if self.found.trail and not self.found.proven:
            yield self._text(self.say("differs"), self._alarm)
        yield self._text(self.of(self._titled()), self._plain)
        yield Spacer(1, 2 * mm)
        table = Table(paired, colWidths=[24 * mm, _WIDTH / 2 - 24 * mm] * 2)
        bar = colors.HexColor(_COLOURS.get(i.colour.value, "#7d8a89"))
        table.setStyle([*_GRID, ("LINEBEFORE", (0, 0), (0, -1), 3, bar)])
        yield table
        yield from self._rests_on(i.headline)

    def _titled(self) -> Text:
        return titled(self.found.incident, {}, self.found.registry)

    def _where(self) -> str:
        """The station with its key, or the water and region somebody reported it from."""
        i, registry = self.found.incident, self.found.registry
        station = next((one for one in registry.stations if one.key == i.station), None)
        if station is not None:
            return f"{self.of(Text(station.zh, station.en))} ({station.key})"
        known = place(i, registry)
        return i.station or (self.of(known) if known is not None else "—")

    def _rests_on(self, about: Headline | None) -> Iterable[Any]:
        """The table of what was measured before and when it was decided, and how sure the detector was."""
        if about is None or not (about.rows or about.confidence is not None):
            return
        yield self._text(self.of(say("headline.why")), self._head)
        if about.rows:
            cells = [[self._text(self.of(say(f"headline.column_{name}")), self._small) for name in COLUMNS]]
            cells += [[self._text(self.of(one), self._cell) for one in row] for row in evidence_table(about)]
            yield Table(cells, colWidths=[_WIDTH / len(COLUMNS)] * len(COLUMNS), style=TableStyle(_GRID))
        more = [*summary(about)]
        if about.score is not None:
            score = {"score": f"{about.score:g}", "threshold": f"{about.threshold:g}"}
            more.append(say("headline.score", **score))
        if more:
            yield self._text(" · ".join(self.of(one) for one in more), self._small)

    def _charts(self) -> Iterable[Any]:
        head = self._text(self.say("charts"), self._head)
        if not self.found.charts:
            yield head
            yield self._text(self.say("unanswered" if self.found.unanswered else "no_chart"), self._plain)
            return
        for number, chart in enumerate(self.found.charts):
            name = Text(f"{chart.station.zh} · {chart.parameter.zh}", f"{chart.station.en} · {chart.parameter.en}")
            unit = "" if chart.parameter.unit == "1" else f" ({chart.parameter.unit})"
            caption = self._text(self.of(name) + unit, self._plain)
            drawing = self._chart(chart) if len(chart.series.at) else self._text(self.say("no_readings"), self._plain)
            yield KeepTogether([*([head] if number == 0 else []), caption, drawing])
        yield self._text(self.say("legend"), self._small)

    def _chart(self, chart: Chart) -> Drawing:
        """The series with its flags, the limit, and what was noted in the history."""
        left, bottom, width, height = 13 * mm, 7 * mm, _WIDTH - 15 * mm, _CHART_HEIGHT - 11 * mm
        drawing = Drawing(_WIDTH, _CHART_HEIGHT)
        s = chart.series
        flags = unpack(s.packed)[0]
        usable = ~np.isnan(s.value) & (flags < Flag.SUSPECT)
        low, high = _range(s.value[usable if usable.any() else ~np.isnan(s.value)], chart.limit)

        def x(at: float) -> float:
            return float(left + (at - chart.start_ms) / (chart.end_ms - chart.start_ms) * width)

        def y(value: float) -> float:
            return float(bottom + min(1.0, max(0.0, (value - low) / (high - low))) * height)

        drawing.add(Rect(left, bottom, width, height, fillColor=None, strokeColor=colors.lightgrey, strokeWidth=0.5))
        for share in (0.0, 0.25, 0.5, 0.75, 1.0):
            value, at = low + share * (high - low), chart.start_ms + share * (chart.end_ms - chart.start_ms)
            drawing.add(Line(left, y(value), left + width, y(value), strokeColor=colors.whitesmoke, strokeWidth=0.5))
            drawing.add(self._word(left - 1.5 * mm, y(value) - 2, f"{value:.{chart.parameter.decimals}f}", "end"))
            drawing.add(self._word(x(at), 2 * mm, beijing(int(at)), "middle"))
        i = self.found.incident
        begin, end = x(max(i.since_ms, chart.start_ms)), x(min(i.last_observed_at_ms, chart.end_ms))
        shade = colors.Color(0.76, 0.18, 0.18, alpha=0.10)
        drawing.add(Rect(begin, bottom, max(0.8, end - begin), height, fillColor=shade, strokeColor=None))
        if chart.limit is not None:
            line = Line(left, y(chart.limit), left + width, y(chart.limit), strokeColor=_FLAGS[Flag.BAD])
            line.strokeDashArray, line.strokeWidth = [3, 2], 0.8
            drawing.add(line)
            drawing.add(self._word(left + width - 1, y(chart.limit) + 2, f"{chart.limit:g}", "end", _FLAGS[Flag.BAD]))
        for stretch in _stretches(
            s.at[usable], s.value[usable], 3 * chart.station.interval_s * 1000 + (s.bucket_ms or 0)
        ):
            points = [coordinate for at, value in stretch for coordinate in (x(at), y(value))]
            if len(points) > 2:
                drawing.add(PolyLine(points, strokeColor=_WATER, strokeWidth=0.7))
        for at, value, flag in zip(s.at, s.value, flags, strict=True):
            if not np.isnan(value) and (flag >= Flag.SUSPECT or len(s.at) <= 200):
                ink = _FLAGS.get(Flag(int(flag)), _GREY)
                drawing.add(
                    Circle(x(at), y(value), 1.5 if flag >= Flag.SUSPECT else 0.9, fillColor=ink, strokeColor=None)
                )
        return drawing

    def _map(self) -> Iterable[Any]:
        registry = self.found.registry
        yield KeepTogether(
            [
                self._text(self.say("map"), self._head),
                self._sketch(registry, self.found.incident.station) or self._text(self.say("no_map"), self._plain),
                self._text(self.say("map_note"), self._small),
            ]
        )

    def _sketch(self, registry: Registry, station: str) -> Drawing | None:
        """The river network with its stations, north up; the incident's station is ringed.

        None where nothing has a place.
        A sketch: equirectangular around the middle, scale 1 the same both ways.
        """
        places = [place for reach in registry.reaches for place in reach.line]
        places += [(one.lon, one.lat) for one in registry.stations]
        if not places:
            return None
        lons, lats = [p[0] for p in places], [p[1] for p in places]
        middle_lon, middle_lat = (min(lons) + max(lons)) / 2, (min(lats) + max(lats)) / 2
        narrow = cos(radians(middle_lat))
        wide, tall = (max(lons) - min(lons)) * narrow or 1e-3, (max(lats) - min(lats)) or 1e-3
        scale = min((_WIDTH - 40 * mm) / wide, (_MAP_HEIGHT - 16 * mm) / tall)

        def at(place: Sequence[float]) -> tuple[float, float]:
            x = _WIDTH / 2 + (place[0] - middle_lon) * narrow * scale
            return x, _MAP_HEIGHT / 2 + (place[1] - middle_lat) * scale

        drawing = Drawing(_WIDTH, _MAP_HEIGHT)
        drawing.add(Rect(0, 0, _WIDTH, _MAP_HEIGHT, fillColor=None, strokeColor=colors.lightgrey, strokeWidth=0.5))
        for reach in registry.reaches:
            if len(reach.line) > 1:
                points = [c for place in reach.line for c in at(place)]
                drawing.add(PolyLine(points, strokeColor=_WATER, strokeWidth=1.6))
                x, y = at(reach.line[len(reach.line) // 2])
                drawing.add(self._word(x, y - 9, getattr(reach, self.language), "middle", _WATER))
        named: list[tuple[float, float, float]] = []
        for one in sorted(registry.stations, key=lambda s: s.key != station):  # its own name stands in any case
            x, y = at((one.lon, one.lat))
            mine = one.key == station
            name = getattr(one, self.language)
            end = x + 7 + stringWidth(name, self._font, _SMALLEST)
            apart = (abs(y - at_y) > _SMALLEST or end < begin or x + 7 > last for begin, last, at_y in named)
            if all(apart):
                named.append((x + 7, end, y))
                drawing.add(self._word(x + 7, y + 3, name, "start", _FLAGS[Flag.BAD] if mine else _INK))
            drawing.add(
                Circle(x, y, 2.6 if mine else 1.6, fillColor=_FLAGS[Flag.BAD] if mine else _INK, strokeColor=None)
            )
            if mine:
                drawing.add(Circle(x, y, 6, fillColor=None, strokeColor=_FLAGS[Flag.BAD], strokeWidth=1))
        per_km = scale / KM_PER_DEGREE
        km = next(k for k in (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 1000) if k * per_km > 18 * mm or k == 1000)
        length = km * per_km
        drawing.add(Line(4 * mm, 4 * mm, 4 * mm + length, 4 * mm, strokeColor=_INK, strokeWidth=1))
        drawing.add(self._word(4 * mm, 5.5 * mm, f"{km:g} km", "start", _INK))
        drawing.add(self._word(_WIDTH - 6 * mm, _MAP_HEIGHT - 7 * mm, "N ↑", "middle", _INK, 8))
        return drawing

    def _word(self, x: float, y: float, text: str, anchor: str, ink: Any = _GREY, size: float = _SMALLEST) -> String:
        self.letters.update(text)
        return String(x, y, text, fontName=self._font, fontSize=size, textAnchor=anchor, fillColor=ink)

    def _weather(self) -> Iterable[Any]:
        yield self._text(self.say("weather"), self._head)
        for rain in self.found.rain:
            name = self.of(Text(rain.station.zh, rain.station.en))
            start, end = beijing(rain.start_ms, _TIME), beijing(rain.end_ms, _TIME)
            rainfall = self.say("rain", station=name, mm=f"{rain.mm:.1f}", readings=rain.readings, start=start, end=end)
            yield self._text(rainfall, self._plain)
        if not self.found.rain:
            yield self._text(self.say("unanswered" if self.found.unanswered else "no_rain"), self._plain)

    def _rule(self) -> Iterable[Any]:
        rule, i = self.found.rule, self.found.incident
        if not rule.id:
            return  # people reported it
        yield self._text(self.say("rule"), self._head)
        yield self._text(self.of(rule_name(rule.id, i.kind.value, i.parameter or "")), self._plain)
        if rule.text is not None:
            yield self._text(self.of(rule.text), self._plain)
        yield self._text(self.say("rule_is", id=rule.id, version=rule.version), self._small)
        if rule.text is not None:
            yield self._text(self.say("rule_from", n=rule.entry), self._small)
        else:
            yield self._text(self.say("rule_unknown"), self._small)

    # -- what was done about it ----------------------------------------------------------------------------------------

    def _timeline(self) -> Iterable[Any]:
        yield self._text(self.say("timeline"), self._head)
        rows = [[self._text(self.say(name), self._small) for name in ("seq", "when", "who", "what")]]
        for entry in self.found.history:
            entry_text = self.of(entry.text)
            if entry.comment:
                entry_text += f"\n{self.say('comment', text=entry.comment)}"
            if entry.measurement:
                entry_text += f"\n{self.say('measured', values=self._measured(entry.measurement))}"
            at = beijing(entry.at_ms, f"{_TIME}:%S")
            rows.append(
                [self._text(text, self._cell) for text in (str(entry.seq), at, self.of(by_whom(entry)), entry_text)]
            )
        widths = [10 * mm, 34 * mm, 34 * mm, _WIDTH - 78 * mm]
        yield Table(rows, colWidths=widths, repeatRows=1, style=TableStyle(_GRID))

    def _measured(self, values: Mapping[str, float]) -> str:
        known, shown = catalogue(), []
        for key, value in values.items():
            name = self.of(Text(known[key].zh, known[key].en)) if key in known else key
            shown.append(f"{name} {known[key].show(value) if key in known else value}")
        return ("、" if self.language == "zh" else ", ").join(shown)

    def _photos(self) -> Iterable[Any]:
        yield self._text(self.say("photos"), self._head)
        if not self.found.pictures:
            yield self._text(self.say("no_photos"), self._plain)
        for picture in self.found.pictures:
            at, by = beijing(picture.at_ms, _TIME), picture.by or "—"
            note = f"{at} · {by} · {picture.note} · SHA-256 {picture.sha256}"
            try:
                shown = Image(io.BytesIO(_printed(picture.file)))
                scale = min(_WIDTH * 0.6 / shown.imageWidth, 80 * mm / shown.imageHeight, 1.0)
                shown.drawWidth, shown.drawHeight = shown.imageWidth * scale, shown.imageHeight * scale
                shown.hAlign = "LEFT"
                yield KeepTogether([shown, self._text(note, self._small)])
            except (OSError, ValueError, WaterError):
                yield self._text(self.say("photo_unreadable", note=note), self._small)

    def _proof(self) -> Iterable[Any]:
        trail, root = self.found.trail, self.found.root
        yield self._text(self.say("proof" if self.found.proven else "no_proof"), self._head)
        if not trail and not self.found.differences:
            yield self._text(self.say("no_trail"), self._plain)
            return
        yield from self._differences()
        yield self._text(self.say("proof_is", count=len(trail)), self._plain)
        rows = [[self._text(self.say(name), self._small) for name in ("entry", "when", "what", "hash")]]
        for line in trail:
            at = beijing(line.at_ms, f"{_TIME}:%S")
            cells = [self._text(text, self._cell) for text in (str(line.n), at, line.what)]
            rows.append([*cells, self._text(line.hash, self._hash)])
        yield Table(
            rows, colWidths=[14 * mm, 34 * mm, 36 * mm, _WIDTH - 84 * mm], repeatRows=1, style=TableStyle(_GRID)
        )
        if not trail or not self.found.proven:
            return
        if root is None:
            yield self._text(self.say("no_root"), self._plain)
        else:
            signed = self.say("root", size=root.size, at=beijing(root.at_ms, _TIME), name=root.key)
            flowables = [self._text(signed, self._plain)]
            flowables += [self._text(text, self._hash) for text in (f"root {root.root}", f"signature {root.signature}")]
            yield KeepTogether(flowables)
        n, public = trail[-1].n, "audit-key.pub"
        yield self._text(self.say("how", n=n), self._plain)
        yield self._text(f"riverchief audit proof {n} --out proof.json", self._hash)
        yield self._text(f"riverchief audit check proof.json --key {public}", self._hash)

    def _differences(self) -> Iterable[Any]:
        """Where the case in the database and the trail disagree."""
        if not self.found.fits:
            yield self._text(self.say("root_differs"), self._plain)
        if not self.found.differences:
            return
        yield self._text(self.say("differences"), self._plain)
        rows = [[self._text(self.say(name), self._small) for name in ("entry", "part", "in_trail", "in_table")]]
        for one in self.found.differences:
            cells = (str(one.n or "—"), f"{one.part} {one.field}".rstrip(), one.trail or "—", one.found or "—")
            rows.append([self._text(text, self._cell) for text in cells])
        rest = (_WIDTH - 50 * mm) / 2
        yield Table(rows, colWidths=[14 * mm, 36 * mm, rest, rest], repeatRows=1, style=TableStyle(_GRID))

    def _text(self, text: str, style: ParagraphStyle) -> Paragraph:
        self.letters.update(text)
        return Paragraph(escape(text).replace("\n", "<br/>"), style)


_GRID: list[Any] = [
    ("VALIGN", (0, 0), (-1, -1), "TOP"),
    ("LINEBELOW", (0, 0), (-1, -1), 0.4, colors.lightgrey),
    ("TOPPADDING", (0, 0), (-1, -1), 1.5),
    ("BOTTOMPADDING", (0, 0), (-1, -1), 2.5),
]


def _range(values: Any, limit: float | None) -> tuple[float, float]:
    """From where to where a chart goes: usable readings and the limit; what lies beyond is drawn at the edge."""
    shown = [*values, *([] if limit is None else [limit])]
    if not shown:
        return 0.0, 1.0
    low, high = float(min(shown)), float(max(shown))
    room = (high - low) * 0.08 or abs(high) * 0.1 or 1.0
    return (max(0.0, low - room) if low >= 0 else low - room), high + room


def _stretches(at: Any, value: Any, pause_ms: int) -> Iterable[list[tuple[float, float]]]:
    """The readings that one line joins: a pause or a missing value ends it."""
    found: list[tuple[float, float]] = []
    for when, one in zip(at, value, strict=True):
        if np.isnan(one) or (found and when - found[-1][0] > pause_ms):
            if found:
                yield found
            found = []
        if not np.isnan(one):
            found.append((float(when), float(one)))
    if found:
        yield found
