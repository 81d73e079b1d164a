"""Drawings made here, as SVG: the badge of a water class, a sketch of the water, a QR code. Pure.

They print, scale, and need neither tiles nor a script. Every text in them is escaped.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from sensors.network import point_at_km
from sensors.standards.gb3838 import WaterClass

INK, QUIET, LINE, WATER, DARK = "#14262a", "#56676b", "#dbe3e2", "#b4cbcd", "#22363a"
LETTERS = {1: "Ⅰ", 2: "Ⅱ", 3: "Ⅲ", 4: "Ⅳ", 5: "Ⅴ", 6: "劣Ⅴ"}
Point = tuple[float, float]


def badge(water_class: WaterClass | None, size: int = 28) -> str:
    """Circle Ⅰ Ⅱ, rounded square Ⅲ, triangle Ⅳ, diamond Ⅴ, octagon 劣Ⅴ, dashed ring where nothing can be judged.

    The shape says it without colours: for red-blind eyes green and orange are one. Letters are black on every colour.
    """
    if water_class is None:
        shape = '<circle cx="16" cy="16" r="13" fill="#fff" stroke="#56676b" stroke-width="2" stroke-dasharray="4 3"/>'
        letter, label = "—", "—"
    else:
        shape, label = _shape(water_class), water_class.sign
        letter = LETTERS[int(water_class)]
    font = max(12.0, size * (0.36 if len(letter) > 1 else 0.4 if water_class is WaterClass.IV else 0.46))
    low = size * (0.78 if water_class is WaterClass.IV else 0.5) + (0 if water_class is WaterClass.IV else 0.36 * font)
    return (
        f'<svg class="rc-badge-mark" viewBox="0 0 {size} {size}" width="{size}" height="{size}" role="img" '
        f'aria-label="{escape(label)}"><g transform="scale({size / 32:.4g})">{shape}</g><text x="{size / 2}" '
        f'y="{low:.1f}" text-anchor="middle" font-size="{font:.1f}" font-weight="700" fill="#000">{letter}</text></svg>'
    )


def _shape(water_class: WaterClass) -> str:
    look = f'fill="{water_class.colour}" stroke="{DARK}" stroke-width="1.6" stroke-linejoin="round"'
    match water_class:
        case WaterClass.I | WaterClass.II:
            return f'<circle cx="16" cy="16" r="13" {look}/>'
        case WaterClass.III:
            return f'<rect x="3.5" y="3.5" width="25" height="25" rx="6" {look}/>'
        case WaterClass.IV:
            return f'<path d="M16 2L31 29H1Z" {look}/>'
        case WaterClass.V:
            return f'<path d="M16 1.5L30.5 16L16 30.5L1.5 16Z" {look}/>'
        case _:
            corners = " ".join(
                f"{16 + 14.4 * math.cos(math.pi / 8 + i * math.pi / 4):.1f},"
                f"{16 + 14.4 * math.sin(math.pi / 8 + i * math.pi / 4):.1f}"
                for i in range(8)
            )
            return f'<polygon points="{corners}" {look.replace("1.6", "2.6")}/>'


@dataclass(frozen=True, slots=True)
class Place:
    """Something on a sketch: where (lon, lat), its name, and its sort (station, here, outfall, likely, stop)."""

    at: Point
    name: str
    sort: str
    rank: int = 0


@dataclass(frozen=True, slots=True)
class Stretch:
    """A stretch of a line, ``from_km`` to ``to_km`` down from its upper end, with its rank (1: likeliest)."""

    line: Sequence[Point]
    from_km: float
    to_km: float
    rank: int


def elided(name: str, most: int) -> str:
    """A name of at most so many letters: cut in the middle, since what tells names apart often stands at the end."""
    if len(name) <= most:
        return name
    head = (most - 1) // 2
    return f"{name[:head].rstrip()}…{name[len(name) - (most - 1 - head) :].lstrip()}"


def sketch(
    lines: Sequence[Sequence[Point]],
    places: Sequence[Place],
    stretches: Sequence[Stretch] = (),
    label: str = "",
    width: float = 460.0,
) -> str:
    """The water as it lies, north on top, around what is shown on it; numbers stand for the ranks beside it."""
    shown = [place.at for place in places] + [p for s in stretches for p in _part(s)]
    shown = shown or [p for line in lines for p in line]
    if not shown:
        return _svg(320, 40, label, [])
    height, margin = 260.0, 40.0
    lon0, lat0 = (min(p[0] for p in shown), min(p[1] for p in shown))
    lon1, lat1 = (max(p[0] for p in shown), max(p[1] for p in shown))
    squeeze = math.cos(math.radians((lat0 + lat1) / 2))
    span_x, span_y = max((lon1 - lon0) * squeeze, 0.006), max(lat1 - lat0, 0.006)
    scale = min((width - 2 * margin) / span_x, (height - 2 * margin) / span_y)
    mid = ((lon0 + lon1) / 2, (lat0 + lat1) / 2)

    def xy(point: Point) -> Point:
        return (
            width / 2 + (point[0] - mid[0]) * squeeze * scale,
            height / 2 - (point[1] - mid[1]) * scale,
        )

    def path(points: Sequence[Point]) -> str:
        return "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in map(xy, points))

    parts = [f'<rect width="{width}" height="{height}" fill="#e6eceb"/>']
    for colour, wide in ((DARK, 7.5), (WATER, 5.0)):
        parts += [
            f'<path d="{path(line)}" fill="none" stroke="{colour}" stroke-width="{wide}" stroke-linejoin="round" '
            'stroke-linecap="round"/>'
            for line in lines
            if len(line) > 1
        ]
    for one in sorted(stretches, key=lambda s: -s.rank):
        x, y = xy(point_at_km(one.line, (one.from_km + one.to_km) / 2))
        parts.append(
            f'<path d="{path(_part(one))}" fill="none" stroke="#6a4c93" stroke-width="6" stroke-linecap="round" '
            f'stroke-opacity="{0.95 if one.rank == 1 else 0.55}"/>' + _number(x, y - 14, one.rank)
        )
    spots = [(place, *xy(place.at)) for place in places]
    parts += [
        _mark(place, x, y) for place, x, y in sorted(spots, key=lambda one: (one[0].sort == "here", -one[0].rank))
    ]
    taken = [(x - 11, y - 25, x + 11, y + 9) for _, x, y in spots]
    for place, x, y in sorted(spots, key=lambda one: (one[0].sort != "here", one[0].rank or 99)):
        short = elided(place.name, 16)
        for name, side in [(name, side) for name in dict.fromkeys((place.name, short)) for side in (1, -1)]:
            long = 12.5 * sum(1 if ord(letter) > 0x2E7F else 0.56 for letter in name)
            left = x + 13 if side > 0 else x - 13 - long
            box = (left, y - 7, left + long, y + 7)
            free = left > 0 and left + long < width
            if free and not any(a < box[2] and c > box[0] and b < box[3] and d > box[1] for a, b, c, d in taken):
                taken.append(box)
                parts.append(
                    f'<text x="{left:.1f}" y="{y + 4.5:.1f}" font-size="12" fill="{INK}" stroke="#eef2f1" '
                    f'stroke-width="3.5" paint-order="stroke" stroke-linejoin="round">{escape(name)}</text>'
                )
                break
    km = 10 ** math.floor(math.log10(max(span_y * 111.3 / 2, 0.11)))
    bar = km / 111.3 * scale
    parts.append(
        f'<rect x="6" y="{height - 32}" width="{max(bar, 44) + 12:.1f}" height="26" rx="4" fill="#eef2f1"/>'
        f'<path d="M12 {height - 12}h{bar:.1f}" stroke="{QUIET}" stroke-width="2"/>'
        f'<text x="12" y="{height - 18}" font-size="12" fill="{QUIET}">{km:g} km</text>'
    )
    return _svg(width, height, label, parts)


def code(text: str, label: str) -> str:
    """A QR code (error correction M) of a text, with the quiet zone that readers need."""
    from reportlab.graphics.barcode.qr import QrCodeWidget  # loads a library of drawings

    made = QrCodeWidget(text, barLevel="M").qr
    made.make()
    count = made.getModuleCount()
    dark = "".join(
        f"M{column + 4} {row + 4}h1v1h-1z"
        for row in range(count)
        for column in range(count)
        if made.isDark(row, column)
    )
    side = count + 8
    return (
        f'<svg viewBox="0 0 {side} {side}" width="132" height="132" role="img" aria-label="{escape(label)}" '
        f'shape-rendering="crispEdges"><rect width="{side}" height="{side}" fill="#fff"/><path d="{dark}"/></svg>'
    )


def _part(one: Stretch) -> list[Point]:
    """The points of a stretch, dense enough to follow the bends."""
    steps = 12
    return [point_at_km(one.line, one.from_km + (one.to_km - one.from_km) * i / steps) for i in range(steps + 1)]


def _mark(place: Place, x: float, y: float) -> str:
    title = f"<title>{escape(place.name)}</title>"
    if place.sort == "here":
        return (
            f'<g>{title}<circle cx="{x:.1f}" cy="{y:.1f}" r="8.5" fill="#fff" stroke="#0b5a5e" stroke-width="2.5"/>'
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4.5" fill="{DARK}"/></g>'
        )
    if place.sort == "stop":
        return f"<g>{title}</g>" + _number(x, y, place.rank)
    if place.sort in ("outfall", "likely"):
        look = ("#6a4c93", "#fff") if place.sort == "likely" else ("#fff", DARK)
        drawn = (
            f'<g>{title}<rect x="{x - 5:.1f}" y="{y - 5:.1f}" width="10" height="10" fill="{look[0]}" '
            f'stroke="{look[1]}" stroke-width="1.5"/></g>'
        )
        return drawn + (_number(x, y - 14, place.rank) if place.rank else "")
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="5" fill="{DARK}" stroke="#fff" stroke-width="1.5">{title}</circle>'


def _number(x: float, y: float, rank: int) -> str:
    return (
        f'<g><circle cx="{x:.1f}" cy="{y:.1f}" r="9" fill="#6a4c93" stroke="#fff" stroke-width="1.5"/>'
        f'<text x="{x:.1f}" y="{y + 4:.1f}" text-anchor="middle" font-size="12" font-weight="700" fill="#fff">'
        f"{rank}</text></g>"
    )


def _svg(width: float, height: float, label: str, parts: Sequence[str]) -> str:
    return (
        f'<svg viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}" height="{height:.0f}" role="img" '
        f'aria-label="{escape(label)}">{"".join(parts)}</svg>'
    )
