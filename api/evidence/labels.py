"""Labels of stations and signs of rivers: an A4 sheet (PDF) with QR code, Chinese and English name.

The Chinese letters are embedded where the machine has a font for them (`api.evidence.font`), else they are those of the
reader's own font.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO, Final
from urllib.parse import quote

from reportlab.graphics import renderPDF
from reportlab.graphics.barcode.qr import QrCodeWidget
from reportlab.graphics.shapes import Drawing
from reportlab.lib.pagesizes import A4
from reportlab.lib.units import mm
from reportlab.pdfbase import pdfmetrics
from reportlab.pdfgen.canvas import Canvas

from api.evidence import font
from infra.errors import ConfigurationError
from infra.texts import say
from sensors.stations import Reach, Station

LATIN = "Helvetica"
COLUMNS, ROWS = 2, 5
_MARGIN, _QR = 10 * mm, 40 * mm
_WIDTH, _HEIGHT = (A4[0] - 2 * _MARGIN) / COLUMNS, (A4[1] - 2 * _MARGIN) / ROWS
_SMALLEST_PT: Final = 6.0


def address(base: str, one: Station | Reach) -> str:
    """The address in a QR code: of a station its screen of the field app, of a river its public page."""
    way = f"field/#/s/{quote(one.key)}" if isinstance(one, Station) else f"r/{quote(one.key)}"
    return f"{base.rstrip('/')}/{way}"


def write(to: Path | BinaryIO, stations: Sequence[Station | Reach], base: str, site: str) -> int:
    """Write the sheet; returns the number of pages. Raises ConfigurationError when there is nothing, or no room."""
    if not stations:
        raise ConfigurationError(say("command.no_stations"))
    letters = {letter for one in stations for letter in one.zh + one.en} | set(site)
    with font.chinese(letters) as chinese:
        _draw(to, stations, base, site, chinese)
    return -(-len(stations) // (COLUMNS * ROWS))


def _draw(to: Path | BinaryIO, stations: Sequence[Station | Reach], base: str, site: str, chinese: str) -> None:
    canvas = Canvas(str(to) if isinstance(to, Path) else to, pagesize=A4)
    canvas.setTitle(f"{site} · labels")
    for number, station in enumerate(stations):
        place = number % (COLUMNS * ROWS)
        if number and not place:
            canvas.showPage()
        x = _MARGIN + place % COLUMNS * _WIDTH
        y = A4[1] - _MARGIN - (place // COLUMNS + 1) * _HEIGHT
        _label(canvas, x, y, station, address(base, station), site, chinese)
    try:
        canvas.save()
    except OSError as error:
        raise ConfigurationError(say("file.unwritable", file=to, error=error.strerror)) from error


def _label(canvas: Any, x: float, y: float, station: Station | Reach, url: str, site: str, chinese: str) -> None:
    canvas.setDash(1, 2)
    canvas.rect(x, y, _WIDTH, _HEIGHT)
    canvas.setDash()
    code = QrCodeWidget(url, barLevel="M", barWidth=_QR, barHeight=_QR)
    drawing = Drawing(_QR, _QR)
    drawing.add(code)
    renderPDF.draw(drawing, canvas, x + 2 * mm, y + (_HEIGHT - _QR) / 2)
    left, room = x + _QR + 4 * mm, _WIDTH - _QR - 6 * mm
    _line(canvas, left, y + _HEIGHT - 14 * mm, station.zh, chinese, 14, room)
    _line(canvas, left, y + _HEIGHT - 21 * mm, station.en, chinese, 9, room)
    _line(canvas, left, y + _HEIGHT - 30 * mm, station.key, LATIN, 11, room)
    _line(canvas, left, y + 8 * mm, site, chinese, 8, room)


def _line(canvas: Any, x: float, y: float, text: str, font: str, size: float, room: float) -> None:
    """A line of text, smaller where it would not fit, and cut where it would be too small to read."""
    wide = pdfmetrics.stringWidth(text, font, size)
    if wide > room:
        size = max(_SMALLEST_PT, size * room / wide)
        while len(text) > 1 and pdfmetrics.stringWidth(text, font, size) > room:
            text = text.removesuffix("…")[:-1] + "…"
    canvas.setFont(font, size)
    canvas.drawString(x, y, text)
