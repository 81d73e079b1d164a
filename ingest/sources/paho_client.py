"""paho's MQTT client on a buffer: PUBLISH packets are taken from it whole, and acknowledged together (decision 0003).

paho reads a packet with several system calls, builds an object with a lock for each message, and writes each
acknowledgement with two calls. In a process with other busy threads each call waits for the interpreter lock.
"""

import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import paho.mqtt.client as paho
from paho.mqtt.client import PINGREQ, PUBACK, PUBLISH
from paho.mqtt.enums import MQTTErrorCode, MQTTProtocolVersion

from sensors.reading import Ints

READ_BYTES = 65_536
MOST_DIGITS = 4
"""Bytes of a length in MQTT."""


@dataclass(slots=True)
class Publish:
    """A received PUBLISH of QoS 0 or 1; ``mid`` is 0 for QoS 0."""

    topic: str
    payload: bytes
    mid: int
    dup: bool

    @property
    def qos(self) -> int:
        return int(self.mid > 0)


class BufferedSocket:
    """A socket that is read in large pieces, and of which only whole packets are given away."""

    def __init__(self, sock: Any) -> None:
        self._socket = sock
        self._data = b""
        self._place = 0
        self._rest = 0  # bytes of a packet that paho is reading

    def __getattr__(self, name: str) -> Any:
        return getattr(self._socket, name)

    def pending(self) -> int:
        """Bytes that can be read without waiting for the network."""
        decrypted = self._socket.pending() if hasattr(self._socket, "pending") else 0  # decrypted by TLS
        return self.packet()[2] + int(decrypted)

    def fill(self) -> bool:
        """Read what has arrived; false at the end of the connection. Raises OSError, also where nothing has arrived."""
        data = self._socket.recv(READ_BYTES)
        self._data = self._data[self._place :] + data
        self._place = 0
        return len(data) > 0

    def recv(self, size: int) -> bytes:
        """A piece of the next packet; where none has arrived whole, what the connection itself answers."""
        self._rest = self._rest or self.packet()[2]
        if not self._rest:
            return bytes(self._socket.recv(size))
        size = min(size, self._rest)
        self._rest -= size
        self._place += size
        return self._data[self._place - size : self._place]

    def packet(self) -> tuple[int, int, int]:
        """Kind of the next packet, where its body begins, and its size; a size of 0 where it has not arrived whole."""
        data, place = self._data, self._place
        length, digits = _length(data, place + 1)
        if not digits:
            malformed = len(data) - place > MOST_DIGITS
            return 0, 0, len(data) - place if malformed else 0
        size = 1 + digits + length
        return data[place] & 0xF0, 1 + digits, size if place + size <= len(data) else 0

    def publish(self, body: int, size: int, *, with_properties: bool) -> Publish:
        """Take the next packet, which is a PUBLISH."""
        data = self._data[self._place : self._place + size]
        self._place += size
        end = body + 2 + int.from_bytes(data[body : body + 2], "big")
        topic, mid = data[body + 2 : end].decode("utf-8", "replace"), 0
        if data[0] & 0x06:
            mid = int.from_bytes(data[end : end + 2], "big")
            end += 2
        if with_properties:
            end += sum(_length(data, end))
        return Publish(topic, data[end:], mid, bool(data[0] & 0x08))


def _length(data: bytes, place: int) -> tuple[int, int]:
    """A length as MQTT writes it, and the number of its bytes; no bytes where it is not whole."""
    if place + 1 < len(data) and data[place + 1] < 0x80 <= data[place]:  # as nearly all messages have it
        return data[place] & 0x7F | data[place + 1] << 7, 2
    length = 0
    for digits, byte in enumerate(data[place : place + MOST_DIGITS], 1):
        length |= (byte & 0x7F) << 7 * (digits - 1)
        if byte < 0x80:
            return length, digits
    return 0, 0


class BufferedClient(paho.Client):
    """A client on a :class:`BufferedSocket`; ``may_read`` tells whether there is room for another message.

    ``on_message`` gets a :class:`Publish`, whatever its topic. Three private members of paho are used
    (``_create_socket``, ``_packet_queue``, ``_last_bytes_received``); its version is pinned, and
    tests/contract/test_paho_client.py tests them.
    """

    may_read: Callable[[], bool]

    def _create_socket(self) -> Any:
        return BufferedSocket(super()._create_socket())

    def loop_read(self, max_packets: int = 1) -> MQTTErrorCode:
        """Read once from the network, and take all packets that are whole, as long as there is room."""
        sock: Any = self.socket()
        if sock is None:
            return MQTTErrorCode.MQTT_ERR_NO_CONN
        if not sock.packet()[2]:
            try:
                ended = not sock.fill()
            except (BlockingIOError, ssl.SSLWantReadError):
                return MQTTErrorCode.MQTT_ERR_SUCCESS
            except OSError:
                ended = True
            if ended:
                return super().loop_read()  # meets the end itself, and reports it
            self._last_bytes_received = time.monotonic()
        five = self.protocol is MQTTProtocolVersion.MQTTv5
        deliver: Any = self.on_message
        code = MQTTErrorCode.MQTT_ERR_SUCCESS
        while (packet := sock.packet())[2] and not code:
            if packet[0] == PUBLISH:
                deliver(self, None, sock.publish(*packet[1:], with_properties=five))
            else:
                code = super().loop_read()
            if self.socket() is not sock or not self.may_read():
                break
        return code

    def acknowledge(self, mids: Ints) -> None:
        """PUBACK for QoS 1 messages; the four bytes are the same in MQTT 3.1.1 and 5 (success needs no reason)."""
        if len(mids) and self.socket() is not None:
            packets = np.empty((len(mids), 4), np.uint8)
            packets[:, 0], packets[:, 1], packets[:, 2], packets[:, 3] = 0x40, 2, mids >> 8, mids & 0xFF
            self._packet_queue(PUBACK, packets.tobytes(), 0, 1)

    def ping(self) -> None:
        """Send PINGREQ without waiting for the answer."""
        self._packet_queue(PINGREQ, b"\xc0\x00", 0, 0)
