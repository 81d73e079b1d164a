"""paho's MQTT client with a buffered socket and acknowledgements that are written together (decision 0003).

paho reads a packet with several system calls and writes each acknowledgement with two. In a process with other busy
threads each call waits for the interpreter lock, and these waits determine the latency.
"""

from collections.abc import Callable
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.client import PINGREQ, PUBACK
from paho.mqtt.enums import MQTTErrorCode

READ_BYTES = 65_536
PACKETS_PER_READ = 500


class BufferedSocket:
    """A socket that is read in large pieces and returns small ones; ``pending`` tells paho how many bytes are left."""

    def __init__(self, sock: Any) -> None:
        self._socket = sock
        self._data = memoryview(b"")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._socket, name)

    def pending(self) -> int:
        decrypted = self._socket.pending() if hasattr(self._socket, "pending") else 0  # decrypted by TLS
        return len(self._data) + int(decrypted)

    def recv(self, size: int) -> bytes:
        if not self._data:
            data = self._socket.recv(READ_BYTES)
            if len(data) <= size:
                return bytes(data)
            self._data = memoryview(data)
        piece, self._data = self._data[:size], self._data[size:]
        return bytes(piece)


class BufferedClient(paho.Client):
    """A client on a :class:`BufferedSocket`; ``may_read`` tells whether there is room for another message.

    Three private methods of paho are used (``_create_socket``, ``_handle_on_message``, ``_packet_queue``); its version
    is pinned, and tests/contract/test_paho_client.py tests them.
    """

    may_read: Callable[[], bool]

    def _create_socket(self) -> Any:
        return BufferedSocket(super()._create_socket())

    def loop_read(self, max_packets: int = 1) -> MQTTErrorCode:
        """Read all packets that have arrived, as long as there is room."""
        for _ in range(PACKETS_PER_READ):
            code = super().loop_read(max_packets)
            sock: Any = self.socket()
            if code or sock is None or not sock.pending() or not self.may_read():
                return code
        return MQTTErrorCode.MQTT_ERR_SUCCESS

    def _handle_on_message(self, message: paho.MQTTMessage) -> None:
        """Call the one callback directly: no topic filters are used."""
        if self.on_message is not None:
            self.on_message(self, None, message)

    def acknowledge(self, mids: list[int]) -> None:
        """PUBACK for QoS 1 messages; the four bytes are the same in MQTT 3.1.1 and 5 (success needs no reason)."""
        if mids and self.socket() is not None:
            packets = b"".join(b"\x40\x02" + mid.to_bytes(2, "big") for mid in mids)
            self._packet_queue(PUBACK, packets, 0, 1)

    def ping(self) -> None:
        """Send PINGREQ without waiting for the answer."""
        self._packet_queue(PINGREQ, b"\xc0\x00", 0, 0)
