"""An HJ 212 logger over TCP: each packet waits for its 9014, requests are answered by 9011, the data and 9012."""

import itertools
import socket
import ssl
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Final

from sensors.parameters import Catalogue, catalogue
from sensors.wire.hj212 import exchange
from sensors.wire.hj212.codes import PERIOD_MS, Cn, ExeRtn, QnRtn, meaning
from sensors.wire.hj212.frame import Frame, FrameReader
from sensors.wire.hj212.packet import Edition, Packet, build, flag_of, parse, read_time, write_qn, write_time
from sensors.wire.telemetry import Sample
from simulator.devices.line_device import LineDevice

MAX_CP_CHARS: Final = 900
"""Characters of CP in one packet; the standard allows 950."""
MAX_KEPT_SAMPLES: Final = 10_000
"""Data remembered for requests of history."""


@dataclass(frozen=True, slots=True)
class Line:
    """Address of the platform, and time-outs of its answers (the standard: 10 s, three resends)."""

    host: str
    port: int
    tls: ssl.SSLContext | None = None
    answer_s: float = 10.0
    resends: int = 3


class Logger(LineDevice[Packet]):
    """One logger of one station. ``done`` lists the commands it was asked to carry out, ``refused`` what the platform
    refused.
    """

    def __init__(
        self,
        line: Line,
        mn: str,
        password: str,
        clock_ms: Callable[[], int],
        *,
        st: str = "21",
        edition: Edition = Edition.E2017,
    ) -> None:
        super().__init__(f"logger-{mn}", line, clock_ms)
        self.refused: list[QnRtn] = []
        self.done: list[str] = []
        self.realtime_s = 60
        self._line = line
        self._about = Packet(None, st=st, pw=password, mn=mn, flag=flag_of(edition, answer=True))
        self._edition = edition
        self._catalogue: Catalogue = catalogue()
        self._memory: OrderedDict[tuple[str, int], Packet] = OrderedDict()
        self._numbers = itertools.count()
        self._thread.start()

    def report(self, sample: Sample, cn: str = Cn.REALTIME, *, send: bool = True) -> None:
        """Take a sample (canonical units, keys of the catalogue) and send it; without ``send`` only remember it.

        Parameters without an HJ 212 code are left out. Of minute, hour and day data ``at_ms`` is the start.
        """
        cp = (("DataTime", write_time(sample.at_ms)), *self._items(sample, "Rtd" if cn == Cn.REALTIME else "Avg"))
        packet = replace(self._about, cn=cn, cp=cp)
        with self._changed:
            self._memory[cn, sample.at_ms] = packet
            while len(self._memory) > MAX_KEPT_SAMPLES:
                self._memory.popitem(last=False)
            if send:
                self._waiting.extend(self._numbered(packet))
        self._ring()

    def _items(self, sample: Sample, key: str) -> Iterator[tuple[str, str]]:
        for name, value in sample.values.items():
            parameter = self._catalogue[name]
            code = parameter.code_2005 if self._edition is Edition.E2005 else parameter.code
            if code is not None:
                _, linear = meaning(code, self._catalogue)
                yield f"{code}-{key}", f"{(value - linear.offset) / linear.gain:.10g}"
                yield f"{code}-Flag", sample.status.get(name, "N")

    def _numbered(self, packet: Packet) -> list[Packet]:
        """With QN, and split where CP is too long: whole items, DataTime in every part, a QN of its own for each."""
        groups: list[list[tuple[str, str]]] = [[]]
        size = 0
        head = [entry for entry in packet.cp if "-" not in entry[0]]
        items = [entry for entry in packet.cp if "-" in entry[0]]
        for _, entries in itertools.groupby(items, lambda entry: entry[0].partition("-")[0]):
            item = list(entries)
            length = sum(len(name) + len(value) + 2 for name, value in item)
            if size + length > MAX_CP_CHARS and groups[-1]:
                groups.append([])
                size = 0
            groups[-1] += item
            size += length
        count = len(groups)
        parts = []
        for number, group in enumerate(groups, 1):
            part = replace(packet, qn=self._next_qn(), cp=(*head, *group))
            if count > 1:
                part = replace(part, flag=flag_of(self._edition, answer=True, split=True), pnum=count, pno=number)
            parts.append(part)
        return parts

    def _next_qn(self) -> str:
        return write_qn(self.now_ms() // 1000 * 1000 + next(self._numbers) % 1000)

    # -- the line ----------------------------------------------------------------------------------------------------

    def _open(self) -> socket.socket:
        raw = socket.create_connection((self._line.host, self._line.port), timeout=5)
        return self._line.tls.wrap_socket(raw, server_hostname=self._line.host) if self._line.tls else raw

    def _reader(self) -> FrameReader:
        return FrameReader()

    def _send(self, sock: socket.socket, message: Packet) -> None:
        sock.sendall(build(message))

    def _handle(self, sock: socket.socket, found: Any) -> None:
        if isinstance(found, Frame):
            self._handle_packet(sock, parse(found.segment))

    def _handle_packet(self, sock: socket.socket, packet: Packet) -> None:
        if packet.cn in (Cn.DATA_ANSWER, Cn.NOTICE_ANSWER, Cn.ACCEPTED):
            with self._changed:
                if self._waiting and self._waiting[0].qn == packet.qn:
                    self._waiting.popleft()
                    self._changed.notify_all()
                    if packet.cn == Cn.ACCEPTED:
                        self.refused.append(QnRtn(int(packet.fields["QnRtn"])))
            return
        if packet.cn is None:
            return
        sock.sendall(build(exchange.request_answer(packet, QnRtn.WILL_EXECUTE)))
        result = self._do(sock, packet, packet.cn)
        sock.sendall(build(exchange.execution_result(packet, result)))
        self.done.append(packet.cn)

    def _do(self, sock: socket.socket, request: Packet, cn: str) -> ExeRtn:
        """Handle a request of the platform."""
        fields = request.fields
        if cn in (Cn.SET_TIME, Cn.SET_LOGGER_TIME):
            self.clock_off_ms = read_time(fields["SystemTime"]) - self._clock_ms()
        elif cn == Cn.SET_REALTIME_INTERVAL:
            self.realtime_s = int(fields["RtdInterval"])
        elif cn in (Cn.TIME, Cn.LOGGER_TIME):
            self._reply(sock, request, ("SystemTime", write_time(self.now_ms())))
        elif cn == Cn.REALTIME:
            newest = max((key for key in self._memory if key[0] == cn), default=None)
            if newest is None:
                return ExeRtn.NO_DATA
            self._reply(sock, request, *self._memory[newest].cp)
        elif cn in PERIOD_MS:
            begin, end = read_time(fields["BeginTime"]), read_time(fields["EndTime"])
            found = [packet for (of, at), packet in self._memory.items() if of == cn and begin <= at <= end]
            for packet in found:
                self._reply(sock, request, *packet.cp)
            return ExeRtn.SUCCESS if found else ExeRtn.NO_DATA
        elif cn not in (Cn.SAMPLE, Cn.KEEP_SAMPLE):
            return ExeRtn.FAILED
        return ExeRtn.SUCCESS

    def _reply(self, sock: socket.socket, request: Packet, *cp: tuple[str, str]) -> None:
        flag = flag_of(self._edition, answer=False)
        sock.sendall(build(replace(self._about, cn=request.cn, qn=request.qn, flag=flag, cp=cp)))
