"""What the centre sends back: the confirmation of a message, the request for a packet, a query. Section 6.5.

A frame whose check value is wrong is not answered: the station sends it again. Link keeping (2F) never is.
"""

from dataclasses import replace
from typing import Final

from infra.times import beijing
from sensors.wire.sl651.body import LINK_KEPT
from sensors.wire.sl651.frame import End, Frame

CONFIRMED: Final = frozenset(range(0x30, 0x37))
"""Messages a station sends by itself and may want confirmed."""
_TIME: Final = "%y%m%d%H%M%S"


def wants_answer(frame: Frame) -> bool:
    """Whether a message is confirmed. A station that does not wait for it (M1) takes no notice."""
    return frame.function in CONFIRMED and frame.function != LINK_KEPT


def confirmation(frame: Frame, serial: bytes, now_ms: int, *, stay: bool = False) -> Frame:
    """Confirm a message, of several packets the last one. ``stay``: the station keeps the line, for we want to ask.

    ``serial`` are the two bytes of the message's serial number.
    """
    return _downlink(frame, serial + _now(now_ms), End.ESC if stay else End.EOT, packet=frame.packets)


def go_on(frame: Frame, serial: bytes, now_ms: int) -> Frame:
    """Ask for the next packet of an answer to a query (M4)."""
    return _downlink(frame, serial + _now(now_ms), End.ACK, packet=frame.packet)


def repeat(frame: Frame, serial: bytes, now_ms: int, packet: int) -> Frame:
    """Ask for a packet again that is missing or was damaged."""
    return _downlink(frame, serial + _now(now_ms), End.NAK, packet=packet)


def query(station: str, centre: int, password: str, function: int, now_ms: int, rest: bytes = b"") -> Frame:
    """A query or command of ours; its serial number is 0, for the centre begins."""
    return Frame(station, centre, password, function, b"\0\0" + _now(now_ms) + rest, End.ENQ, downlink=True)


def query_like(frame: Frame, function: int, now_ms: int, rest: bytes = b"") -> Frame:
    """A query to the station that sent a frame, in its mode."""
    asked = query(frame.station, frame.centre, frame.password, function, now_ms, rest)
    return replace(asked, body=asked.body.hex().upper().encode("ascii"), ascii=True) if frame.ascii else asked


def _downlink(frame: Frame, body: bytes, end: End, *, packet: int) -> Frame:
    return Frame(
        frame.station,
        frame.centre,
        frame.password,
        frame.function,
        body.hex().upper().encode("ascii") if frame.ascii else body,
        end,
        downlink=True,
        packets=frame.packets,
        packet=packet,
        ascii=frame.ascii,
    )


def _now(now_ms: int) -> bytes:
    return bytes.fromhex(beijing(now_ms, _TIME))
