"""Transport of solutes: a conservative finite-volume scheme on a tree of cells.

Each cell has at most one cell below it, so a face is known by its upper cell. Advection is second order with van Leer's
limiter, which makes no new extremes in uniform flow; dispersion is exchanged between neighbours. Both are explicit and
divided into as many equal parts as stability asks for. Whatever leaves a cell through a face enters the one behind it:
without sources the mass changes by rounding only.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from sensors.reading import Floats, Places

COURANT = 0.8
"""Largest share of a cell's water that may leave it in one part of a step."""


@dataclass(frozen=True)
class Mesh:
    """The tree. ``below``: (n,) the cell below each, −1 for none; face i lies between ``up[i]`` and ``down[i]``.

    ``fixed``: (n,) cells whose content is prescribed: the water beyond the ends.
    """

    below: Places
    fixed: Places = field(default_factory=lambda: np.zeros(0, np.intp))

    def __post_init__(self) -> None:
        n = len(self.below)
        up = np.flatnonzero(self.below >= 0)
        down = self.below[up]
        main = np.full(n, -1, np.intp)  # the cell above each: the first of those that flow in
        for i in up[::-1]:
            main[self.below[i]] = i
        groups: list[Places] = []
        left = np.arange(len(up))
        while len(left):  # faces by turns, so that within a group no cell receives twice
            _, first = np.unique(down[left], return_index=True)
            groups.append(left[np.sort(first)])
            left = np.delete(left, first)
        far_up = np.where(main[up] >= 0, main[up], up)
        far_down = np.where(self.below[down] >= 0, self.below[down], down)
        for name, value in (("up", up), ("down", down), ("far_up", far_up), ("far_down", far_down), ("groups", groups)):
            object.__setattr__(self, name, value)

    up: Places = field(init=False)
    down: Places = field(init=False)
    far_up: Places = field(init=False)
    far_down: Places = field(init=False)
    groups: Sequence[Places] = field(init=False)

    def gather(self, flux: Floats) -> Floats:
        """(…, n) what the fluxes (…, f) through the faces, positive downwards, leave in each cell."""
        net = np.zeros((*flux.shape[:-1], len(self.below)))
        net[..., self.up] -= flux
        for group in self.groups:
            net[..., self.down[group]] += flux[..., group]
        return net

    def upstream_sums(self) -> Floats:
        """(f, n) matrix of 0 and 1: the cells whose water passes each face."""
        n = len(self.below)
        sums = np.zeros((len(self.up), n))
        row = {int(cell): i for i, cell in enumerate(self.up)}
        for cell in range(n):
            at = cell
            while at >= 0 and at in row:
                sums[row[at], cell] = 1.0
                at = int(self.below[at])
        return sums


def carry(  # noqa: PLR0913, PLR0917  (the terms of one equation)
    mesh: Mesh,
    content: Floats,
    volume: Floats,
    volume_after: Floats,
    flow: Floats,
    exchange: Floats,
    inflow: Floats,
    load: Floats,
    step_s: float,
) -> Floats:
    """Carry concentrations one step on.

    Parameters
    ----------
    content : (m, n) float array
        Concentrations of m tracers in n cells.
    volume, volume_after : (n,) float arrays
        m³ before and after the step; they must differ by what flow and inflow bring (fixed cells are left out).
    flow, exchange : (f,) float arrays
        m³/s through each face, positive downwards, and dispersive exchange, area · dispersion / distance.
    inflow : (n,) float array
        m³/s that enter from outside of the network.
    load : (m, n) float array
        What the inflow carries, and what is added without water: concentration · m³/s.

    Returns
    -------
    (m, n) float array
        Concentrations after the step; those of fixed cells are unchanged.
    """
    up, down = mesh.up, mesh.down
    free = np.ones(len(volume), bool)
    free[mesh.fixed] = False
    leaving = np.zeros(len(volume))
    leaving[up] += np.maximum(flow, 0) + exchange
    for group in mesh.groups:
        leaving[down[group]] += np.maximum(-flow[group], 0) + exchange[group]
    least = np.minimum(volume, volume_after)
    share = float((step_s * leaving[free] / least[free]).max(initial=0.0))
    parts = max(1, int(np.ceil(share / COURANT)))
    part_s = step_s / parts
    forward = flow >= 0
    source, target = np.where(forward, up, down), np.where(forward, down, up)
    behind = np.where(forward, mesh.far_up, mesh.far_down)
    size, backs = np.abs(flow), content[:, mesh.fixed]
    for i in range(parts):
        before = volume + (volume_after - volume) * (i / parts)
        after = volume + (volume_after - volume) * ((i + 1) / parts)
        here = content[:, source]
        ahead = content[:, target] - here
        rise = here - content[:, behind]
        product = ahead * rise
        # van Leer's limiter: the harmonic mean of the two slopes, nothing at an extreme
        slope = np.where(product > 0, 2 * product / np.where(product > 0, ahead + rise, 1.0), 0.0)
        courant = np.minimum(size * part_s / before[source], 1.0)
        flux = flow * (here + 0.5 * (1 - courant) * slope)
        flux += exchange * (content[:, up] - content[:, down])
        content = (content * before + part_s * (mesh.gather(flux) + load)) / after
        if len(mesh.fixed):
            content[:, mesh.fixed] = backs
    return content


def distances(lengths_m: Floats, mesh: Mesh) -> Floats:
    """(f,) metres from the middle of a face's upper cell to that of its lower one."""
    return np.asarray((lengths_m[mesh.up] + lengths_m[mesh.down]) / 2)


def cuts(length_m: float, about_m: float) -> Floats:
    """(k,) equal lengths that make up ``length_m``, each about ``about_m``, two at least."""
    count = max(2, round(length_m / about_m))
    return np.full(count, length_m / count)
