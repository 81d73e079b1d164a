"""Model of a cluster for 5,000 to 1,000,000 stations, and a simulated storm; writes both into docs/scale.md.

    python tools/scale.py

Reads the measured costs of a message (tools/scale_measured.json, by tools/scale_measure.py) and the assumptions of
tools/scale.toml. The storm: all stations of a province come back after an outage and send what they stored. Needs
matplotlib for the plot (``pip install -e '.[plots]'``).
"""

import json
import math
import tomllib
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from infra.times import DAY_MS

HERE = Path(__file__).parent
PAGE, PLOT = Path("docs/scale.md"), Path("docs/images/scale-storm.png")
BEGIN, END = "<!-- model: written by make scale -->", "<!-- end of model -->"
SIZES = (5_000, 100_000, 1_000_000)
PARTITION_SPREAD = 0.25
"""Rivers are not equally large: standard deviation of the size of a partition, as a share of the mean."""


@dataclass(frozen=True)
class Assumed:
    """Measured costs and assumptions, each in the unit of its name."""

    measured: dict[str, float]
    stations: dict[str, float]
    site: dict[str, float]
    machine: dict[str, float]


@dataclass(frozen=True)
class Sized:
    """What a number of stations takes."""

    stations: int
    live_s: float
    storm_s: float
    """Messages a second when every station is recovered in the time allowed."""
    cores: dict[str, float]
    """Cores by part at that rate."""
    memory_gb: float
    stream_gb: float
    database_tb: float
    network_mbit: float
    workers: int
    bridges: int
    partitions: int
    machines: int
    cny_month: float


def sized(stations: int, a: Assumed) -> Sized:
    """Derive what it takes; each part is as large as the storm demands, used up to the spare share."""
    s, m = a.stations, a.measured
    live_s = stations / s["interval_s"]
    backlog = stations * s["outage_h"] * 3600 / s["interval_s"]
    storm_s = live_s + backlog / (a.site["recover_h"] * 3600)
    late = (storm_s - live_s) * s["late_cost"] + live_s
    spare = a.site["spare"]
    cores = {part: storm_s * m[f"{part}_cpu_us"] / 1e6 / spare for part in ("broker", "bridge", "streams", "database")}
    cores["worker"] = late * m["worker_cpu_us"] / 1e6 / spare
    workers = max(2, math.ceil(cores["worker"]))
    bridges = max(2, math.ceil(cores["bridge"]))
    memory_gb = stations * s["memory_kb"] / 2**20 + 0.4 * (workers + bridges)
    stream_gb = backlog * m["stream_bytes"] / 1e9
    database_tb = live_s * 86_400 * a.site["keep_days"] * m["database_bytes"] / 1e12
    inward = s["payload_bytes"] + 60
    network = storm_s * 8 / 1e6 * (2 * inward + m["stream_bytes"] + inward + m["database_bytes"])
    k = a.machine
    servers = max(3, math.ceil(sum(cores.values()) / k["cores"]), math.ceil(memory_gb / k["memory_gb"] / spare))
    cny = servers * k["cny_month"] + (3 * stream_gb / 1e3 + 2 * database_tb) * k["disk_tb_cny_month"]
    return Sized(
        stations,
        live_s,
        storm_s,
        cores,
        memory_gb,
        stream_gb,
        database_tb,
        network,
        workers,
        bridges,
        max(8, 2 * workers),
        servers,
        cny,
    )


@dataclass
class Storm:
    """Queues second by second: (seconds,) messages each, and how long a live message waits."""

    broker: Any
    streams: Any
    late: Any
    wait_s: Any

    def over_s(self, queue: Any, limit: float) -> int:
        """The first second after which a queue stays within a limit; the last if it never does."""
        above = np.flatnonzero(queue > limit)
        return int(above[-1]) + 1 if len(above) else 0

    def judged_s(self, live_s: float) -> int:
        """When all that was held back is judged: what waits is a second of live messages at most."""
        return self.over_s(self.broker + self.streams + self.late, max(1.0, live_s))


def storm(size: Sized, a: Assumed, hours: int = 24) -> Storm:
    """Every station comes back at its own moment, sends what it stored, oldest first, and goes on living.

    One second a step. Bridges share what the broker holds; each worker serves its partitions from the largest queue on.
    A late message is stored as it came when it is read, and judged when no live one waits or in a fifth of the time.
    """
    s, rng = a.stations, np.random.default_rng(1)
    shares = np.clip(rng.normal(1, PARTITION_SPREAD, size.partitions), 0.3, None)
    shares /= shares.sum()
    bridge_s = size.bridges * a.site["spare"] * 1e6 / a.measured["bridge_cpu_us"]
    worker_s = size.workers * a.site["spare"] * 1e6 / a.measured["worker_cpu_us"] / size.partitions
    stored_first = 0.5  # reading, storing as it came and noting it, as a share of what a live message costs
    back_at = rng.uniform(0, s["reconnect_s"], size.stations).astype(np.int64)
    returning = np.bincount(back_at, minlength=int(s["reconnect_s"]) + 1)
    kept = s["outage_h"] * 3600 / s["interval_s"]
    seconds = hours * 3600
    sending_s = max(1, math.ceil(kept / s["send_per_s"]))
    online, broker = 0.0, 0.0
    queue_live, queue_late, judged_late = (np.zeros(size.partitions) for _ in range(3))
    found = Storm(*(np.zeros(seconds) for _ in range(4)))
    sending = np.zeros(seconds + sending_s + 1)
    for at, count in enumerate(returning):
        sending[at : at + sending_s] += count
    for t in range(seconds):
        online += returning[t] if t < len(returning) else 0
        late_in, live_in = sending[t] * kept / sending_s, online / s["interval_s"]
        broker += late_in + live_in
        moved = min(broker, bridge_s)
        live_share = live_in / (late_in + live_in) if late_in + live_in else 1.0
        broker -= moved
        queue_live += moved * live_share * shares
        queue_late += moved * (1 - live_share) * shares
        room = np.full(size.partitions, worker_s)
        # one stream, in order: live and late messages leave in the proportion in which they wait
        cost = queue_live + queue_late * stored_first
        part = np.minimum(1.0, np.divide(0.8 * room, cost, out=np.ones_like(cost), where=cost > 0))
        done_late = queue_late * part
        room -= cost * part
        queue_live, queue_late = queue_live * (1 - part), queue_late - done_late
        judged_late += done_late
        judged_late -= np.minimum(judged_late, room / s["late_cost"])
        found.broker[t], found.streams[t] = broker, queue_live.sum() + queue_late.sum()
        found.late[t] = judged_late.sum()
        found.wait_s[t] = broker / bridge_s + float(np.max((queue_live + queue_late * stored_first) / (0.8 * worker_s)))
    return found


def broker_gb(held: float, stations: int, a: Assumed) -> float:
    """Memory of the broker for what it holds and who is connected."""
    return (held * a.measured["broker_held_bytes"] + stations * a.stations["connection_kb"] * 1024) / 1e9


def bottleneck(size: Sized, a: Assumed, held: float) -> tuple[str, float]:
    """What is full first of the parts that are one server each, and at how many stations in proportion."""
    k, spare = a.machine, a.site["spare"]
    limits = {
        "the memory of one Mosquitto": k["memory_gb"] * spare / broker_gb(held, size.stations, a),
        "the one core that Mosquitto uses": spare / (size.cores["broker"] * spare),
        "one PostgreSQL server": k["postgres_cores"] * spare / (size.cores["database"] * spare),
    }
    name = min(limits, key=lambda one: limits[one])
    return name, size.stations * limits[name]


def draw(storms: dict[int, Storm]) -> None:
    """The queues of each storm, one below the other."""
    plt = import_module("matplotlib.pyplot")
    figure, axes = plt.subplots(len(storms), 1, figsize=(8, 2 * len(storms)), sharex=True)
    for axis, (stations, one) in zip(axes, storms.items(), strict=True):
        hours = np.arange(len(one.broker)) / 3600
        for queue, label, colour in (
            (one.broker, "held by the broker", "#c0392b"),
            (one.streams, "in the streams", "#2c5f8a"),
            (one.late, "stored, not judged yet", "#7f8c8d"),
        ):
            axis.plot(hours, queue / 1e6, label=label, color=colour, linewidth=1.2)
        axis.set_title(f"{stations:,} stations", loc="left", fontsize=9)
        axis.set_ylabel("million messages", fontsize=8)
        axis.tick_params(labelsize=8)
        axis.grid(alpha=0.3)
    axes[0].legend(fontsize=8)
    axes[-1].set_xlabel("hours after the stations come back", fontsize=8)
    axes[-1].set_xlim(0, 6)
    figure.tight_layout()
    PLOT.parent.mkdir(exist_ok=True)
    figure.savefig(PLOT, dpi=90)


def page(sizes: list[Sized], storms: dict[int, Storm], a: Assumed) -> str:
    """The section of the page."""
    m = a.measured
    parts = ("broker", "bridge", "streams", "worker", "database")
    costs = ", ".join(f"{part} {m[f'{part}_cpu_us']:.0f}" for part in parts)
    head = " | ".join(f"{one.stations:,}" for one in sizes)

    def row(name: str, value: Any) -> str:
        return f"| {name} | {' | '.join(value(one) for one in sizes)} |"

    lines = [
        f"Measured on {m['day']} with {m['messages']:,.0f} messages of six values, three NATS servers with 3 synced",
        f"replicas: CPU a message, in µs: {costs} (`streams` is all three servers);",
        f"{m['stream_bytes']:.0f} bytes in the streams (all replicas), {m['database_bytes']:.0f} in PostgreSQL.",
        f"Assumed, in `tools/scale.toml`: a message every {a.stations['interval_s']:.0f} s, an outage of",
        f"{a.stations['outage_h']:.0f} h after which everything is judged within {a.site['recover_h']:.0f} h,",
        f"{a.site['spare']:.0%} of each machine in use, and prices.",
        "",
        f"| stations | {head} |",
        f"|---|{'---|' * len(sizes)}",
        row("messages a second, live", lambda one: f"{one.live_s:,.0f}"),
        row("messages a second, to recover in time", lambda one: f"{one.storm_s:,.0f}"),
        *(row(f"cores for it: {part}", lambda one, part=part: f"{one.cores[part]:,.2f}") for part in parts),
        row("bridges, workers, partitions", lambda one: f"{one.bridges}, {one.workers}, {one.partitions}"),
        row("memory of workers and bridges, GB", lambda one: f"{one.memory_gb:,.0f}"),
        row("streams, a day's backlog, GB", lambda one: f"{one.stream_gb:,.0f}"),
        row(f"PostgreSQL, {a.site['keep_days']:.0f} days, TB", lambda one: f"{one.database_tb:,.2f}"),
        row("network while recovering, Mbit/s", lambda one: f"{one.network_mbit:,.0f}"),
        row("machines of 16 cores, 64 GB", lambda one: f"{one.machines}"),
        row("CNY a month, machines and disks", lambda one: f"{one.cny_month:,.0f}"),
        "",
        "### A provincial storm",
        "",
        f"Every station comes back within {a.stations['reconnect_s']:.0f} s of the end of the outage and sends its",
        f"{a.stations['outage_h'] * 3600 / a.stations['interval_s']:.0f} messages, {a.stations['send_per_s']:.0f} a",
        "second, while it goes on measuring. Simulated second by second, with the machines of the table above.",
        "",
        "![Queues after the outage](images/scale-storm.png)",
        "",
        f"| stations | {head} |",
        f"|---|{'---|' * len(sizes)}",
        row("most messages held by the broker, million", lambda one: f"{storms[one.stations].broker.max() / 1e6:,.2f}"),
        row(
            "memory of the broker for them, GB",
            lambda one: f"{broker_gb(float(storms[one.stations].broker.max()), one.stations, a):,.1f}",
        ),
        row("most messages in the streams, million", lambda one: f"{storms[one.stations].streams.max() / 1e6:,.2f}"),
        row("longest wait of a live message, min", lambda one: f"{storms[one.stations].wait_s.max() / 60:,.0f}"),
        row(
            "live messages wait less than 10 s again after, min",
            lambda one: f"{storms[one.stations].over_s(storms[one.stations].wait_s, 10) / 60:,.0f}",
        ),
        row(
            "everything judged after, h",
            lambda one: f"{storms[one.stations].judged_s(one.live_s) / 3600:,.1f}",
        ),
        "",
        first_bottleneck(sizes[-1], storms[sizes[-1].stations], a),
    ]
    return "\n".join(lines)


def first_bottleneck(size: Sized, one: Storm, a: Assumed) -> str:
    """What is full first, in a few sentences."""
    name, stations = bottleneck(size, a, float(one.broker.max()))
    full = round(size.stations * a.machine["postgres_cores"] / size.cores["database"], -5)
    return (
        f"**First bottleneck: {name}**, at about {round(stations, -3):,.0f} stations: devices send faster than the"
        "\nbridges take, and Mosquitto holds the rest. More bridges move it to the streams, which are on disks; brokers"
        "\nin a cluster (EMQX), or one for each city, share it. A logger that puts its backlog into few messages (up to"
        "\n1,000 samples each) takes it away. Bridges, workers and streams spread over machines; PostgreSQL does not,"
        f"\nand is full at about {full:,.0f} stations on {a.machine['postgres_cores']} cores."
    )


def assumed() -> Assumed:
    """Read measurements and assumptions."""
    measured = json.loads((HERE / "scale_measured.json").read_text("utf-8"))
    given = tomllib.loads((HERE / "scale.toml").read_text("utf-8"))
    return Assumed(measured, given["stations"], given["site"], given["machine"])


def main() -> None:
    a = assumed()
    sizes = [sized(stations, a) for stations in SIZES]
    storms = {one.stations: storm(one, a, int(DAY_MS / 3_600_000)) for one in sizes}
    draw(storms)
    text = PAGE.read_text("utf-8")
    start, end = text.index(BEGIN) + len(BEGIN), text.index(END)
    PAGE.write_text(text[:start] + "\n" + page(sizes, storms, a) + "\n" + text[end:], "utf-8")


if __name__ == "__main__":
    main()
