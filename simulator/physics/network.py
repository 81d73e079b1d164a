"""The registry's waters as cells: geometry, base flow and loads.

Widths, depths, flows and loads are assumed by kind of water, so that published levels come out;
a registry has none of them. Rivers that flow into nothing are tidal: they are lengthened at both ends by water that
leaves with the tide and comes back. Creeks begin in a slow pond and end at a gate. Lakes lie behind a weir.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from infra.errors import ConfigurationError
from infra.texts import say
from sensors.network import OutfallKind, length_km, nodes_on_cycles, point_at_km
from sensors.reading import Bools, Floats, Places
from sensors.stations import Reach, Registry, Station, Water
from simulator.physics.chemistry import Bed
from simulator.physics.hydraulics import Mesh, cuts, distances
from simulator.physics.noise import key_of, lattice
from simulator.scenario import along_km

# content:        °C    DO   BOD   NH   NO3  PO4    NTU    OM     EC    alk   DIC  chl  organic
DIRTY_BRANCH = (23.0, 3.2, 2.8, 0.45, 4.1, 0.090, 10.0, 2.00, 400.0, 2.05, 2.26, 8.0, 6.0)
CLEAN_BRANCH = (23.0, 7.2, 1.2, 0.10, 2.1, 0.022, 36.0, 0.95, 312.0, 1.70, 1.75, 8.0, 3.0)
SEAWARD = (23.0, 6.9, 1.3, 0.14, 2.2, 0.026, 36.0, 1.00, 315.0, 1.74, 1.80, 8.0, 3.5)
CREEK_HEAD = (23.0, 4.8, 4.2, 0.50, 4.0, 0.09, 12.0, 3.0, 440.0, 2.30, 2.50, 16.0, 4.0)
LAKE_HEAD = (23.0, 7.0, 3.0, 0.25, 1.1, 0.03, 9.0, 3.5, 330.0, 1.90, 1.95, 22.0, 3.0)
SEWAGE = (25.0, 0.3, 170.0, 32.0, 6.0, 3.0, 45.0, 20.0, 950.0, 4.60, 5.60, 0.2, 65.0)
EFFLUENT = (26.0, 6.5, 5.0, 0.6, 9.0, 0.21, 3.0, 3.4, 620.0, 2.40, 2.60, 0.5, 3.0)
RUNOFF = (23.0, 7.6, 9.0, 0.55, 1.3, 0.07, 165.0, 3.0, 90.0, 0.75, 0.83, 0.2, 25.0)
OVERFLOW = (24.0, 1.0, 95.0, 15.0, 3.5, 1.5, 300.0, 13.0, 520.0, 2.60, 3.20, 0.2, 120.0)
ACID = (27.0, 6.0, 20.0, 0.5, 3.0, 0.1, 45.0, 60.0, 9500.0, -88.0, 0.10, 0.2, 5.0)
ALKALI = (27.0, 6.0, 25.0, 0.5, 3.0, 0.1, 50.0, 90.0, 15000.0, 130.0, 4.0, 0.2, 10.0)
BRINE = (27.0, 5.5, 10.0, 1.0, 6.0, 0.1, 18.0, 50.0, 42000.0, 4.0, 4.2, 0.2, 2.0)
"""Content of what flows in, tracers in the order of ``chemistry.TRACERS``."""

SIDE_CREEKS = (
    (23.0, 1.0, 9.0, 10.0, 2.0, 0.55, 10.0, 3.6, 440.0, 2.45, 2.90, 12.0, 9.0),
    (23.0, 0.8, 5.0, 0.15, 10.0, 0.14, 5.0, 6.5, 820.0, 2.10, 2.44, 6.0, 5.0),
    (23.0, 9.0, 5.0, 0.60, 1.4, 0.40, 8.0, 4.0, 340.0, 1.90, 1.90, 70.0, 12.0),
)
"""The many small creeks of a delta, which no registry has and each ebb empties into its river: one with raw sewage; one
that lives on treated water, rich in nitrate and salts and still poor in oxygen; one behind fish ponds, green and rich
in phosphorus. Assumed.
That poor oxygen comes with much ammonia here and with little there is what 平洲 shows: r(EC, NH3-N) is 0.01 there, and
its saltiest, poorest water has the least ammonia."""

SIDE_KINDS = (0.25, 0.55, 0.2)
"""How much of them is of each kind."""
SIDE_SHARE = 0.85
"""Surface of small creeks beside a river, as a share of its own. Assumed: 10 km² of delta drain to each km of river,
with 1.5 km of creek to the km², 12 m wide, which is 0.75 of a river 240 m wide; a little more for ponds with gates."""

UP_KM, DOWN_KM = 14.0, 9.0
"""Tidal water above and below the reach of a river; the tide moves it by some 7 km."""

BRANCH_KM = 10.0
"""From one cleaner branch that joins to the next (assumed). It is more than the tide moves the water: at every fifth
kilometre, where one was before, each station had clean water above and below it and saw half of the swing that the
flood and the ebb of a delta have."""

STORE_M2 = 9.5e6
"""Surface of the branches further up, which the tide fills and drains through the river."""

SEASON_FLOW = 0.45
"""Share by which the fresh water is more in July and less in January than in the mean."""


@dataclass(frozen=True, slots=True)
class WaterDefaults:
    """Assumed for one kind of water."""

    cell_m: float
    width_m: float
    depth_m: float
    base_flow: float
    """m³/s of fresh water at its head."""
    dispersion: float
    """m²/s."""
    leak: float
    """m³/s of sewage for each km, on a dry day: crossed connections, old pipes."""
    catchment_km2: float
    """For each km."""


WATER_DEFAULTS: Mapping[Water, WaterDefaults] = {
    Water.RIVER: WaterDefaults(500.0, 240.0, 6.5, 70.0, 35.0, 0.0, 0.0),
    Water.CREEK: WaterDefaults(320.0, 16.0, 1.7, 1.7, 10.0, 0.0098, 0.9),
    Water.LAKE: WaterDefaults(200.0, 130.0, 1.8, 0.02, 0.8, 0.0, 0.35),
}


@dataclass(frozen=True)
class Network:
    """The cells of a site. ``reach``: (n,) number of the reach in ``reaches``, also of the water that lengthens it."""

    mesh: Mesh
    reaches: tuple[Reach, ...]
    reach: Places
    length_m: Floats
    width_m: Floats
    bed_m: Floats
    """(n,) height of the bed above the mean level of the tide, negative."""
    later_h: Floats
    """(n,) when the tide comes, hours after the mouth."""
    tidal: Bools
    """(n,) whether the cell lies in a tidal river; others have their reach's level."""
    own: Mapping[str, Places]
    """Reach key → its cells from the upper end, without what lengthens them."""
    heads: Places
    """Cells into which the fresh water of creeks and lakes flows; of ghosts, see ``upper``."""
    upper: Places
    """Fixed cells above tidal rivers."""
    lower: Places
    """Fixed cells at the sea's side of tidal rivers, and behind what ends nowhere."""
    seaward: Places
    """Those of ``lower`` that lie in tidal water."""
    base: Floats
    """(n,) m³/s that flow in on an ordinary day."""
    base_content: Floats
    """(13, n) its content."""
    leak: Floats
    """(n,) m³/s of sewage."""
    catchment_m2: Floats
    """(reaches,)."""
    combined: Mapping[int, int]
    """Number of a reach → cell of its first combined outfall."""
    dispersion: Floats
    """(f,) m²/s."""
    bed: Bed
    sides: Floats
    """(kinds, n) how much of each kind of small creek lies beside a cell of a tidal river; patchy."""

    def cell(self, reach: str, km: float) -> int:
        """The cell ``km`` down a reach; its ends for what lies beyond."""
        return _cell_at(self.own[reach], self.length_m, km)

    def spot(self, station: Station) -> tuple[Places, float]:
        """The two cells a station lies between, upper first, and its share of the way from one middle to the other."""
        reach = next((r for r in self.reaches if r.key == station.reach), None)
        if reach is None:
            raise ConfigurationError(say("simulate.no_reach", key=station.key))
        cells = self.own[reach.key]
        middle = np.cumsum(self.length_m[cells]) - self.length_m[cells] / 2
        at = along_km(reach, station.lon, station.lat) * 1000
        i = int(np.clip(np.searchsorted(middle, at) - 1, 0, len(cells) - 2))
        share = float(np.clip((at - middle[i]) / (middle[i + 1] - middle[i]), 0.0, 1.0))
        return cells[i : i + 2], share


_STRANGE = "~"
"""Begins the keys of waters that are in no registry; no real key can."""
_STRANGE_LINES: Mapping[Water, tuple[tuple[float, float], ...]] = {
    Water.RIVER: ((113.00, 23.0), (113.12, 23.0)),
    Water.CREEK: ((113.06, 23.04), (113.06, 23.0)),
    Water.LAKE: ((113.02, 23.02), (113.03, 23.02)),
}


def placed(registry: Registry) -> Registry:
    """The registry with a place for every station: those on no known reach lie on a made-up one of their kind."""
    known = {r.key for r in registry.reaches}
    strange = [s for s in registry.stations if s.reach not in known]
    if not strange:
        return registry
    kinds = {s.water for s in strange}
    if Water.CREEK in kinds:
        kinds.add(Water.RIVER)
    reaches = tuple(
        Reach(
            f"{_STRANGE}{kind}",
            kind,
            kind,
            kind,
            line,
            downstream=f"{_STRANGE}{Water.RIVER}" if kind is Water.CREEK else None,
        )
        for kind, line in _STRANGE_LINES.items()
        if kind in kinds
    )
    moved = {}
    for s in strange:
        line = _STRANGE_LINES[s.water]
        lon, lat = point_at_km(line, length_km(line) * (0.1 + 0.8 * key_of(0, s.key, "place") / 2**64))
        moved[s.key] = replace(s, reach=f"{_STRANGE}{s.water}", lon=lon, lat=lat)
    stations = tuple(moved.get(s.key, s) for s in registry.stations)
    return replace(registry, reaches=(*registry.reaches, *reaches), stations=stations)


def build(registry: Registry) -> Network:
    """Cut the registry's reaches into cells; raises ConfigurationError where they run in a circle."""
    reaches = registry.reaches
    if not reaches:
        raise ConfigurationError(say("simulate.no_place"))
    if circle := nodes_on_cycles((r.key, r.downstream) for r in reaches if r.downstream):
        raise ConfigurationError(say("simulate.circle", known=", ".join(sorted(circle))))
    cells = _cut(reaches)
    reach, role, length = cells.reach, cells.role, cells.length
    own: dict[str, Places] = {r.key: np.flatnonzero((reach == i) & (role == "own")) for i, r in enumerate(reaches)}
    _join(cells, reaches, own)
    kinds = [WATER_DEFAULTS[r.water] for r in reaches]

    def by_kind(name: str) -> Floats:
        return np.array([getattr(k, name) for k in kinds], float)[reach]

    mesh = Mesh(cells.below, np.flatnonzero(np.isin(role, ["upper", "sea", "lower"])))
    water = np.array([r.water for r in reaches], object)[reach]
    tidal = np.array([_is_tidal(r) for r in reaches])[reach]
    heads, base, content = _ordinary(reaches, reach, role, length)
    leak = by_kind("leak") * length / 1000 * np.isin(role, ["own", "above"])
    combined = _let_in_outfalls(registry, own, length, leak=leak, base=base, content=content)
    in_river = water == Water.RIVER
    lake = water == Water.LAKE
    creek = ~in_river & ~lake
    length_of = np.array([length_km(r.line) for r in reaches])
    return Network(
        mesh,
        reaches,
        reach,
        length,
        by_kind("width_m") * np.where((role == "above") & creek, 1.3, 1.0),
        -by_kind("depth_m"),
        _tide_delays(reaches, reach, length),
        tidal,
        own,
        heads,
        np.flatnonzero(role == "upper"),
        np.flatnonzero(np.isin(role, ["sea", "lower"])),
        np.flatnonzero(role == "sea"),
        base,
        content,
        leak,
        np.array([k.catchment_km2 for k in kinds]) * length_of * 1e6,
        combined,
        np.minimum(by_kind("dispersion")[mesh.up], by_kind("dispersion")[mesh.down]),
        _bed(reaches, reach, length, in_river, lake),
        _small_creeks(reaches, reach, length) * tidal * np.select([role == "own", role == "above"], [1.0, 0.3], 0.5),
    )


def _is_tidal(reach: Reach) -> bool:
    return reach.water is Water.RIVER and reach.downstream is None


@dataclass(frozen=True, slots=True)
class _Cells:
    """(n,) each: the number of the reach, what a cell is there for, its length in m, and the cell below, -1 for none.

    ``role`` is ``own``, or of the water that lengthens a reach: ``upper`` (fixed), ``above``, ``beyond``, ``sea`` and
    ``lower`` (fixed).
    """

    reach: Places
    role: NDArray[np.str_]
    length: Floats
    below: Places


def _cut(reaches: tuple[Reach, ...]) -> _Cells:
    """The cells of all reaches, each flowing into the next of its reach."""
    parts: list[tuple[int, Floats, str]] = []  # (reach, lengths, role) in the order of the cells
    for i, r in enumerate(reaches):
        kind = WATER_DEFAULTS[r.water]
        cells_m = cuts(length_km(r.line) * 1000, kind.cell_m)
        if _is_tidal(r):
            parts += [(i, np.full(1, 3000.0), "upper"), (i, cuts(UP_KM * 1000, 1400.0), "above"), (i, cells_m, "own")]
            parts += [(i, cuts(DOWN_KM * 1000, 1500.0), "beyond"), (i, np.full(1, 3000.0), "sea")]
        else:
            above = [(i, np.full(2, 2.2 * kind.cell_m), "above")] if r.water is not Water.LAKE else []
            parts += [*above, (i, cells_m, "own")]
            parts += [(i, np.full(1, 1000.0), "lower")] if r.downstream is None else []
    sizes = [len(lengths) for _, lengths, _ in parts]
    reach = np.repeat(np.array([i for i, _, _ in parts], np.intp), sizes)
    role = np.repeat(np.array([name for _, _, name in parts], "U8"), sizes)
    below = np.arange(1, len(reach) + 1, dtype=np.intp)
    below[np.append(np.diff(reach) != 0, True)] = -1
    return _Cells(reach, role, np.concatenate([lengths for _, lengths, _ in parts]), below)


def _join(cells: _Cells, reaches: tuple[Reach, ...], own: Mapping[str, Places]) -> None:
    """Let each reach flow into the one that it ends in, where that comes by."""
    known = {r.key: r for r in reaches}
    for r in reaches:
        if r.downstream is None:
            continue
        if r.downstream not in known:
            raise ConfigurationError(say("simulate.downstream", key=r.key, downstream=r.downstream))
        mouth_km = along_km(known[r.downstream], *r.line[-1])
        cells.below[own[r.key][-1]] = _cell_at(own[r.downstream], cells.length, mouth_km)


def _cell_at(cells: Places, length: Floats, km: float) -> int:
    """The cell of a reach that lies ``km`` down it; the last for what lies beyond."""
    ends_km = np.cumsum(length[cells]) / 1000
    return int(cells[min(int(np.searchsorted(ends_km, km)), len(cells) - 1)])


def _tide_delays(reaches: tuple[Reach, ...], reach: Places, length: Floats) -> Floats:
    """(n,) hours by which the tide comes later than at the mouth; 0 without a tide."""
    found = np.zeros(len(reach))
    for i, r in enumerate(reaches):
        if not _is_tidal(r):
            continue
        cells = np.flatnonzero(reach == i)
        from_mouth = (length[cells].sum() - np.cumsum(length[cells]) + length[cells] / 2) / 1000
        east = (113.2 - r.line[-1][0]) * 102.5  # the mouths lie to the east
        found[cells] = (from_mouth - DOWN_KM - 3.0 + max(east, 0.0)) / 18.0
    return found


def _let_in_outfalls(
    registry: Registry, own: Mapping[str, Places], length: Floats, *, leak: Floats, base: Floats, content: Floats
) -> dict[int, int]:
    """Add the ordinary flow of the outfalls to the cells; number of a reach → cell of its first combined outfall."""
    index = {r.key: i for i, r in enumerate(registry.reaches)}
    combined: dict[int, int] = {}
    for o in registry.outfalls:
        if o.reach not in index:
            continue
        cell = _cell_at(own[o.reach], length, o.km)
        if o.kind is OutfallKind.COMBINED:
            combined.setdefault(index[o.reach], cell)
        elif o.kind is OutfallKind.SEWAGE:
            leak[cell] += 0.002
        elif o.kind is OutfallKind.PLANT:
            content[:, cell] = EFFLUENT
            base[cell] = 1.5
    return combined


def _bed(reaches: tuple[Reach, ...], reach: Places, length: Floats, in_river: Bools, lake: Bools) -> Bed:
    """Sediment by kind of water, patchy along the reach."""
    return Bed(
        sediment_demand=np.select([in_river, lake], [0.8, 1.2], 2.6),
        fine=np.select([in_river, lake], [4.0, 4.5], 9.0),
        stirred=np.select([in_river, lake], [60.0, 8.0], 16.0),
        settling=np.select([in_river, lake], [72.0, 2.0], 9.0),
        richness=np.select([in_river, lake], [0.22, 0.45], 0.45)
        * np.exp(0.7 * _patches(reaches, reach, length, "mud", 1.0)),
        mud_demand=np.select([in_river, lake], [0.0003, 0.004], 0.008),
        nitrifiers=np.exp(0.8 * _patches(reaches, reach, length, "nitrifiers", 3.0)),
        richest=np.select([in_river, lake], [26.0, 46.0], 46.0),
        growth=np.select([in_river, lake], [1.9, 1.9], 2.6),
        release=np.select([in_river, lake], [0.3, 0.35], 1.0),
        held_po4=np.select([in_river, lake], [0.08, 0.03], 0.13),
    )


def _patches(reaches: tuple[Reach, ...], reach: Places, length: Floats, what: str, every_km: float) -> Floats:
    """(n,) smooth numbers in −1…1 by place alone, new every ``every_km``: bed and banks are the same for every seed."""
    found = np.zeros(len(reach))
    for i, r in enumerate(reaches):
        cells = np.flatnonzero(reach == i)
        metres = np.cumsum(length[cells]) - length[cells] / 2
        found[cells] = lattice(np.round(3600 * metres).astype(np.int64), every_km, key_of(0, r.key, what))
    return found


def _small_creeks(reaches: tuple[Reach, ...], reach: Places, length: Floats) -> Floats:
    """(kinds, n) where which small creeks are: none for kilometres, then a town's or a village's; by length as many as
    ``SIDE_KINDS`` says."""
    found = np.array(
        [
            np.maximum(_patches(reaches, reach, length, f"small creeks {j}", 2.0) + 0.1, 0.0)
            for j in range(len(SIDE_CREEKS))
        ]
    )
    for i in range(len(reaches)):
        its = reach == i
        mean = (found[:, its] * length[its]).sum(axis=1) / length[its].sum()
        found[:, its] *= (np.array(SIDE_KINDS) / np.maximum(mean, 0.05))[:, None]
    return found


def _ordinary(
    reaches: tuple[Reach, ...], reach: Places, role: NDArray[np.str_], length: Floats
) -> tuple[Places, Floats, Floats]:
    """Heads, and what flows into every cell on an ordinary day: (heads), (n,) m³/s and (13, n) content."""
    n = len(reach)
    base, content = np.zeros(n), np.zeros((len(CREEK_HEAD), n))
    heads: list[int] = []
    for i, r in enumerate(reaches):
        cells = np.flatnonzero((reach == i) & np.isin(role, ["own", "above", "beyond"]))
        if r.water is Water.RIVER and r.downstream is None:
            # cleaner branches join on the way down: that is why the ebb is dirtier than the flood
            metres = np.cumsum(length[cells]) - length[cells] / 2
            away_km = (metres / 1000 + BRANCH_KM / 2) % BRANCH_KM - BRANCH_KM / 2
            joining = length[cells] * np.exp(-((away_km / 0.6) ** 2)) * np.where(role[cells] == "above", 0.1, 1.0)
            base[cells] = 330.0 * joining / joining.sum()
            content[:, cells] = np.array(CLEAN_BRANCH)[:, None]
        else:
            heads.append(int(cells[0]))
            base[cells[0]] = WATER_DEFAULTS[r.water].base_flow
            content[:, cells[0]] = LAKE_HEAD if r.water is Water.LAKE else CREEK_HEAD
    return np.array(heads, np.intp), base, content


def spacing(network: Network) -> Floats:
    """(f,) metres between the middles of neighbouring cells."""
    return distances(network.length_m, network.mesh)
