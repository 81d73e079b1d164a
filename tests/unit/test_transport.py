"""What a device with troubles puts onto the wire: nothing disappears without a word; the clock of the water stays."""

import json
from collections import Counter

import pytest

from sensors.wire.telemetry import MAX_BYTES, Sample, parse
from simulator.devices.transport import BATTERY_LASTS, Fate, SampleOutcome, Transmission, TransmissionKind, Transport
from simulator.scenario import Trouble, TroubleKind

T0 = 1_780_000_000_000
MINUTE, HOUR = 60_000, 3_600_000


def trouble(kind: TroubleKind, start_ms: int, end_ms: int, **more: float) -> Trouble:
    return Trouble(f"{kind}-1", kind, ("a",), T0 + start_ms, T0 + end_ms, **more)


def sample(at_ms: int, value: float | None = None) -> Sample:
    return Sample(T0 + at_ms, {"do": at_ms / MINUTE if value is None else value, "ph": 7.1})


class Run:
    """A device that measures once a minute, and what it put onto the wire and settled."""

    def __init__(self, *troubles: Trouble, seed: int = 1, boot: int = 100, minutes: int = 60, **more: int) -> None:
        self.settled: list[SampleOutcome] = []
        self.device = Transport("a", troubles, seed=seed, boot=boot, settled=self.settled.append, **more)
        self.puts: list[Transmission] = []
        for i in range(minutes):
            self.puts += self.device.take(sample(i * MINUTE))
        self.puts += self.device.finish(T0 + minutes * MINUTE)

    @property
    def messages(self):
        return [p.message for p in self.puts if p.kind is TransmissionKind.TELEMETRY]

    @property
    def events(self) -> list[dict[str, object]]:
        return [json.loads(p.payload) for p in self.puts if p.kind is TransmissionKind.EVENT]

    @property
    def fates(self) -> Counter[Fate]:
        return Counter(s.fate for s in self.settled)


def test_without_troubles_each_sample_is_one_message_numbered_and_counted():
    run = Run()
    assert [m.seq for m in run.messages] == list(range(60))
    assert [m.total for m in run.messages] == [2 * (i + 1) for i in range(60)]
    assert {m.boot for m in run.messages} == {100}
    assert [s.at_ms for m in run.messages for s in m.samples] == [T0 + i * MINUTE for i in range(60)]
    assert all(m.sent_at_ms == m.samples[0].at_ms for m in run.messages)
    assert all(parse(p.payload) == p.message for p in run.puts), "the bytes say what the message says"
    assert run.fates == {Fate.SENT: 60}


def test_an_outage_is_bridged_by_memory_and_ends_in_one_burst_oldest_first():
    run = Run(trouble(TroubleKind.OUTAGE, 10 * MINUTE, 30 * MINUTE - 1))
    assert [p.kind for p in run.puts].count(TransmissionKind.CUT) == 1
    assert [len(m.samples) for m in run.messages] == [1] * 10 + [20] + [1] * 30
    burst = run.messages[10]
    assert [s.at_ms for s in burst.samples] == [T0 + i * MINUTE for i in range(10, 30)]
    assert burst.sent_at_ms == T0 + 30 * MINUTE - 1
    assert [m.seq for m in run.messages] == list(range(41)), "the line was away, the device was not"
    assert run.messages[-1].total == 120
    assert run.fates == {Fate.SENT: 60}


def test_a_long_outage_comes_back_in_messages_that_keep_the_contract():
    many = {f"p{i}": 12345.678 for i in range(20)}
    device = Transport("a", [trouble(TroubleKind.OUTAGE, 0, 100 * HOUR)], seed=1, boot=1)
    for i in range(3000):
        assert [p.kind for p in device.take(Sample(T0 + i * MINUTE, many))] == (
            [TransmissionKind.CUT] if i == 0 else []
        )
    puts = device.advance(T0 + 100 * HOUR)
    assert puts[0].kind is TransmissionKind.BACK
    assert max(len(p.payload) for p in puts) <= MAX_BYTES
    few = Transport("a", [trouble(TroubleKind.OUTAGE, 0, 100 * HOUR)], seed=1, boot=1)
    for i in range(2500):
        few.take(sample(i * MINUTE))
    burst = [p.message for p in few.advance(T0 + 100 * HOUR) if p.message]
    assert [len(m.samples) for m in burst] == [1000, 1000, 500]


def test_a_full_memory_drops_the_oldest_and_says_so():
    run = Run(trouble(TroubleKind.OUTAGE, 0, 50 * MINUTE), memory=30)
    assert [s.sample.at_ms for s in run.settled if s.fate is Fate.DROPPED] == [T0 + i * MINUTE for i in range(20)]
    assert run.messages[0].samples[0].at_ms == T0 + 20 * MINUTE
    assert run.fates == {Fate.DROPPED: 20, Fate.SENT: 40}


def test_what_is_still_in_memory_at_the_end_is_unsent():
    run = Run(trouble(TroubleKind.OUTAGE, 50 * MINUTE, 90 * MINUTE))
    assert run.fates == {Fate.SENT: 50, Fate.UNSENT: 10}
    assert len(run.messages) == 50


def test_a_reboot_begins_a_new_numbering_with_a_greater_boot():
    run = Run(trouble(TroubleKind.REBOOT, 20 * MINUTE, 22 * MINUTE))
    assert [(m.boot, m.seq) for m in run.messages] == [(100, i) for i in range(20)] + [(101, i) for i in range(38)]
    assert run.messages[20].total == 2
    assert run.fates == {Fate.SENT: 58, Fate.OFF: 2}
    assert [e["event"] for e in run.events] == ["restarted"]
    assert [p.kind for p in run.puts if p.kind in (TransmissionKind.CUT, TransmissionKind.BACK)] == [
        TransmissionKind.CUT,
        TransmissionKind.BACK,
    ]


def test_a_lost_message_is_counted_by_the_device_and_told_in_the_truth():
    run = Run(trouble(TroubleKind.LOST, 0, HOUR, share=0.3))
    seqs = {m.seq for m in run.messages}
    lost = [s for s in run.settled if s.fate is Fate.LOST]
    assert 5 < len(lost) < 35
    assert {s.seq for s in lost} == set(range(60)) - seqs, "the gap in the numbering is what was lost"
    last = run.messages[-1]
    assert last.total == 2 * (last.seq + 1)


def test_a_duplicate_is_the_same_bytes_twice():
    run = Run(trouble(TroubleKind.DUPLICATED, 0, HOUR, share=0.3))
    counted = Counter(p.payload for p in run.puts)
    assert set(counted.values()) == {1, 2}
    assert len(counted) == 60
    assert run.fates == {Fate.SENT: 60}


def test_a_reordered_message_is_overtaken_by_the_next_one_and_none_is_missing():
    run = Run(trouble(TroubleKind.REORDERED, 0, HOUR, share=0.3))
    seqs = [m.seq for m in run.messages]
    assert seqs != sorted(seqs)
    assert sorted(seqs) == list(range(60))
    assert all(abs(seq - i) <= 1 for i, seq in enumerate(seqs))


def test_a_delayed_message_keeps_its_time_and_leaves_later():
    run = Run(trouble(TroubleKind.DELAYED, 0, HOUR, share=0.5, delay_s=300))
    late = [p for p in run.puts if p.kind is TransmissionKind.TELEMETRY and p.at_ms < p.message.sent_at_ms]
    assert not late
    assert sorted(m.seq for m in run.messages) == list(range(60))
    assert [m.seq for m in run.messages] != list(range(60))
    assert {m.samples[0].at_ms for m in run.messages} == {T0 + i * MINUTE for i in range(60)}


def test_a_wrong_clock_writes_wrong_times_and_the_truth_keeps_the_right_ones():
    run = Run(
        trouble(TroubleKind.CLOCK_ERROR, 10 * MINUTE, 20 * MINUTE, clock_s=3600),
        trouble(TroubleKind.CLOCK_DRIFT, 30 * MINUTE, 50 * MINUTE, drift_s_per_day=-864),
    )
    told = {s.sample.at_ms - T0: s.reported_ms - T0 for s in run.settled}
    assert set(told) == {i * MINUTE for i in range(60)}
    assert told[10 * MINUTE] == 10 * MINUTE + HOUR
    assert told[20 * MINUTE] == 20 * MINUTE
    assert told[30 * MINUTE] == 30 * MINUTE
    assert told[40 * MINUTE] == 40 * MINUTE - 6000, "ten minutes of a hundredth too slow"
    assert told[50 * MINUTE] == 50 * MINUTE
    written = [s.at_ms - T0 for m in run.messages for s in m.samples]
    assert written == list(told.values()), "the messages carry the device's clock"
    assert run.messages[10].sent_at_ms == T0 + 10 * MINUTE + HOUR


def test_battery_and_door_speak_in_events_and_an_empty_battery_is_silent_until_it_is_replaced():
    run = Run(
        trouble(TroubleKind.BATTERY, 0, 50 * MINUTE, volts=12.6), trouble(TroubleKind.DOOR, 5 * MINUTE, 7 * MINUTE)
    )
    said = [e["event"] for e in run.events]
    assert said == ["door_open", "door_closed", "battery", "battery_low", "battery_critical", "battery_replaced"]
    volts = [e["volts"] for e in run.events if "volts" in e]
    assert volts[:3] == sorted(volts[:3], reverse=True)
    assert all(10.5 <= v <= 12.6 for v in volts)
    off = [s.sample.at_ms - T0 for s in run.settled if s.fate is Fate.OFF]
    assert off == [i * MINUTE for i in range(round(50 * BATTERY_LASTS), 50)]
    assert [m.boot for m in run.messages] == [100] * 45 + [101] * 10


def test_an_event_during_an_outage_is_told_afterwards_with_its_own_time():
    run = Run(trouble(TroubleKind.OUTAGE, 0, 30 * MINUTE), trouble(TroubleKind.DOOR, 10 * MINUTE, 10 * MINUTE))
    (put,) = [p for p in run.puts if p.kind is TransmissionKind.EVENT]
    assert put.at_ms == T0 + 30 * MINUTE
    assert json.loads(put.payload) == {"event": "door_open", "at": "2026-05-28T20:36:40Z"}


def test_a_line_that_is_really_away_is_bridged_like_an_outage():
    device = Transport("a", seed=1, boot=1)
    device.reachable = False
    for i in range(5):
        assert device.take(sample(i * MINUTE)) == []
    assert device.remembered == 5
    device.reachable = True
    (put,) = device.advance(T0 + 5 * MINUTE)
    assert [s.at_ms for s in put.message.samples] == [T0 + i * MINUTE for i in range(5)]


EVERYTHING = (
    trouble(TroubleKind.LOST, 0, HOUR, share=0.1),
    trouble(TroubleKind.DUPLICATED, 0, HOUR, share=0.1),
    trouble(TroubleKind.REORDERED, 0, HOUR, share=0.1),
    trouble(TroubleKind.DELAYED, 0, HOUR, share=0.2, delay_s=120),
    trouble(TroubleKind.OUTAGE, 10 * MINUTE, 20 * MINUTE),
    trouble(TroubleKind.REBOOT, 30 * MINUTE, 31 * MINUTE),
    trouble(TroubleKind.CLOCK_ERROR, 35 * MINUTE, 45 * MINUTE, clock_s=-30),
)


def test_the_same_seed_is_the_same_wire_and_another_seed_another():
    assert Run(*EVERYTHING, seed=7).puts == Run(*EVERYTHING, seed=7).puts
    assert Run(*EVERYTHING, seed=7).puts != Run(*EVERYTHING, seed=8).puts


def test_another_start_of_the_same_seed_is_hit_by_the_same_troubles():
    first, second = Run(*EVERYTHING, seed=7), Run(*EVERYTHING, seed=7, boot=200)
    assert [(p.at_ms, p.message and (p.message.boot - 100, p.message.seq)) for p in first.puts] == [
        (p.at_ms, p.message and (p.message.boot - 200, p.message.seq)) for p in second.puts
    ]


def test_how_often_time_is_told_changes_nothing_that_is_sent():
    seldom = Run(*EVERYTHING, seed=7)
    device, puts = Transport("a", EVERYTHING, seed=7, boot=100), []
    for i in range(60):
        for second in range(0, 60, 7):
            puts += device.advance(T0 + i * MINUTE - MINUTE + second * 1000)
        puts += device.take(sample(i * MINUTE))
    puts += device.finish(T0 + HOUR)
    assert [(p.at_ms, p.payload) for p in puts] == [(p.at_ms, p.payload) for p in seldom.puts]


def test_every_sample_has_exactly_one_fate():
    for seed in range(20):
        run = Run(*EVERYTHING, seed=seed)
        assert [s.sample.at_ms for s in sorted(run.settled, key=lambda s: s.sample.at_ms)] == [
            T0 + i * MINUTE for i in range(60)
        ]


def test_samples_gathered_into_messages_of_ten():
    run = Run(per_message=10, minutes=35)
    assert [len(m.samples) for m in run.messages] == [10, 10, 10, 5]
    with pytest.raises(ValueError, match="1 to 1000"):
        Transport("a", seed=1, boot=1, per_message=1001)
