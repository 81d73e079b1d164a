"""Requests to loggers and answers to them (HJ 212-2017, 6.6 and Appendix C).

A request asks for an answer and is followed by 9011 (will you do it), the data or the deed, and 9012 (how it went). An
upload is answered by 9014, a notice by 9013. Every answer repeats the QN of what it answers; its ST is 91.

Doubts: the 2005 edition is said to repeat QN inside CP as well; we answer it in the form of 2017, which real loggers of
that edition are not known to refuse. What CP of 3012 and 3015 holds was not seen in the standard beyond PolId.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

from infra.errors import ConfigurationError
from infra.texts import say
from sensors.wire.hj212.codes import HJ1404_CLOCK, INTERACTION, Cn, ExeRtn, QnRtn
from sensors.wire.hj212.packet import Edition, Packet, flag_of, write_time

REALTIME_S = (30, 3600)
"""RtdInterval: seconds between real-time data, from and to."""
_MAX_POLLUTANTS = 6


def _answer(to: Packet, cn: str, *cp: tuple[str, str], st: str | None = INTERACTION) -> Packet:
    edition = to.edition or Edition.E2017
    return Packet(cn, to.qn, st, to.pw, to.mn, flag_of(edition, answer=False), cp=cp)


def data_answer(to: Packet) -> Packet:
    """9014: the data have arrived."""
    return _answer(to, Cn.DATA_ANSWER)


def notice_answer(to: Packet) -> Packet:
    """9013: the notice has arrived."""
    return _answer(to, Cn.NOTICE_ANSWER)


def request_answer(to: Packet, result: QnRtn) -> Packet:
    """9011: whether a request will be executed, and what was wrong with it."""
    return _answer(to, Cn.ACCEPTED, ("QnRtn", str(int(result))))


def execution_result(to: Packet, result: ExeRtn) -> Packet:
    """9012: how a request went."""
    return _answer(to, Cn.RESULT, ("ExeRtn", str(int(result))))


@dataclass(frozen=True, slots=True)
class Command:
    """A request to a logger. ``cp`` is computed when it is sent: a clock is set to the time of sending."""

    cn: str
    cp: Callable[[int], tuple[tuple[str, str], ...]]

    def packet(self, about: Packet, qn: str, now_ms: int) -> Packet:
        """The request; ``about`` tells whom it is for and in which edition: MN, PW, ST, Flag."""
        flag = flag_of(about.edition or Edition.E2017, answer=True)
        cn = HJ1404_CLOCK.get(self.cn, self.cn) if about.hj1404 else self.cn
        return replace(Packet(cn), qn=qn, st=about.st, pw=about.pw, mn=about.mn, flag=flag, cp=self.cp(now_ms))


def _fixed(cn: str, *cp: tuple[str, str]) -> Command:
    return Command(cn, lambda _now: cp)


def ask_time() -> Command:
    """1011: what time the logger has."""
    return _fixed(Cn.TIME)


def set_time() -> Command:
    """1012: our time, Beijing, to the second."""
    return Command(Cn.SET_TIME, lambda now_ms: (("SystemTime", write_time(now_ms + 500)),))


def set_realtime_interval(seconds: int) -> Command:
    """1062; raises ConfigurationError outside of 30 to 3600 s."""
    low, high = REALTIME_S
    if not low <= seconds <= high:
        raise ConfigurationError(say("device.no_interval", seconds=seconds, low=low, high=high))
    return _fixed(Cn.SET_REALTIME_INTERVAL, ("RtdInterval", str(seconds)))


def fetch(cn: str, begin_ms: int, end_ms: int) -> Command:
    """2051, 2061 or 2031 of a time range. Real-time data have no history: :func:`ask_now` asks for the newest."""
    if cn not in (Cn.MINUTE, Cn.HOUR, Cn.DAY):
        raise ConfigurationError(say("device.no_history", cn=cn))
    return _fixed(cn, ("BeginTime", write_time(begin_ms)), ("EndTime", write_time(end_ms)))


def ask_now() -> Command:
    """2011: send real-time data."""
    return _fixed(Cn.REALTIME)


def sample_now(factor: str | None = None) -> Command:
    """3012: take a sample at once, with the analyser of one factor or with all."""
    return _fixed(Cn.SAMPLE, *_pollutant(factor))


def keep_sample(factor: str | None = None) -> Command:
    """3015: keep a sample of the over-limit water in the sampler."""
    return _fixed(Cn.KEEP_SAMPLE, *_pollutant(factor))


def _pollutant(factor: str | None) -> tuple[tuple[str, str], ...]:
    if factor is None:
        return ()
    if not factor.isascii() or not factor.isalnum() or len(factor) > _MAX_POLLUTANTS:
        raise ConfigurationError(say("device.no_code", factor=factor))
    return (("PolId", factor),)
