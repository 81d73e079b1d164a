"""Reactions in the water: heat, oxygen, organic matter, nutrients, algae, pH.

Rates are per day at 20 °C and come from textbook ranges (Chapra, Surface Water-Quality Modeling), chosen within them so
that levels come out as Guangdong stations publish them; they are not calibrated against a survey.
"""

from dataclasses import dataclass

import numpy as np

from sensors.reading import Floats
from sensors.standards.oxygen import saturation

TRACERS = ("temp", "do", "bod", "nh3n", "no3n", "po4p", "solids", "om", "ec", "alk", "dic", "chla", "organic")
"""Rows of the content: °C; mg/L of oxygen, ultimate BOD, NH3-N, other N, dissolved P; NTU of mineral particles; mg/L of
dissolved CODMn that does not decay; µS/cm at 25 °C (mixing linearly, which holds within a few per cent); mmol/L of
alkalinity and inorganic carbon; µg/L of chlorophyll a; NTU of organic particles that are no algae."""

TEMP, DO, BOD, NH, NO, PO, SOLIDS, OM, EC, ALK, DIC, CHL, ORGANIC = range(len(TRACERS))

_DAY_S = 86_400.0
_BUBBLING, _BUBBLES = 1.5, 12.0
"""Above so many times saturation oxygen leaves in bubbles, so fast a day: a bloom comes to 200 % at most (the rate is
an engineering choice)."""
_O2_PER_MMOL = 32.0
GROWN_O2 = 0.12
"""mg of oxygen for each µg of chlorophyll grown: 45 µg C a µg, one O2 a C."""
_SORBED = 0.0075
"""Dissolved phosphorus that mud takes up or gives off, mg/L for each NTU of it and each mg/L that the water is off what
the bed holds: 0.6 of what a NTU of lifted mud carries (0.001 mg/L, see ``measured``) is loosely or iron-bound, beside
0.08 mg/L in the water. So the bed evens out phosphorus within hours wherever the current lifts it, and asks no oxygen.
The shares are orders of magnitude."""
_FLOORS = np.array([0.0, 0.0, 0.0, 0.004, 0.05, 0.002, 0.5, 0.2, 20.0, -50.0, 0.005, 0.2, 0.1])


@dataclass(frozen=True, slots=True)
class Bed:
    """Rates of the cells, (n,) each, by kind of water."""

    sediment_demand: Floats
    """g of oxygen a m² and day at 20 °C."""
    fine: Floats
    """NTU that stay in still water."""
    stirred: Floats
    """NTU more at a current of 0.5 m/s, growing with its square."""
    settling: Floats
    """m a day."""
    richness: Floats
    """Of what is stirred up, organic for each mineral NTU; it differs from place to place."""
    mud_demand: Floats
    """mg/L of oxygen that each NTU stirred up from the bed takes at once: reduced iron and sulphide."""
    nitrifiers: Floats
    """Of nitrifying bacteria, relative to the mean; they sit on walls and banks, here more and there less."""
    richest: Floats
    """µg/L of chlorophyll at which nothing grows any more."""
    growth: Floats
    """Of algae, per day in full light."""
    release: Floats
    """Of ammonia and phosphorus from the sediment, relative to a creek's."""
    held_po4: Floats
    """mg/L of dissolved phosphorus at which mud of this bed neither takes it up nor gives it off."""


@dataclass(slots=True)
class Weathering:
    """Forcing of the cells in this step, (n,) each or numbers."""

    light: float
    balance_c: float
    wind: float
    current: Floats
    """m/s."""
    depth: Floats
    """m."""
    bloom: Floats
    """Chlorophyll in µg/L that a bloom strives for; 0 where there is none."""
    stagnant: Floats
    """0…1: a warm, still, hungry bed (low-oxygen night)."""
    traffic: Floats
    """What ships and gusts stir up beside the current, as a factor."""
    fluff: Floats
    """Of the organic share of what is stirred up, as a factor: a fresh layer after still days, none after it was washed
    away."""


def react(content: Floats, bed: Bed, acts: Weathering, step_s: float, real: Floats) -> Floats:
    """Let the content (w, 13, n) of w waters change for ``step_s``; ``real`` (w, 1) is 0 for a water without events."""
    days = step_s / _DAY_S
    c = [content[:, i] for i in range(len(TRACERS))]
    temp, do, bod, nh, no, po, solids, om, ec, alk, dic, chl, organic = c
    depth, stagnant = acts.depth, acts.stagnant * real
    warm = temp - 20.0
    k47 = 1.047**warm
    salt = np.maximum(ec - 500.0, 0.0) * 5.8e-4
    full = oxygen_full(temp, salt)

    extinction = 0.6 + 0.028 * (solids + organic) + 0.018 * chl
    deep = extinction * depth
    lit = acts.light * (1 - np.exp(-deep)) / deep
    bloom = acts.bloom * real
    blooming = bloom > bed.richest
    grown = bed.growth * np.where(blooming, 1.5, 1.0) * 1.066**warm * lit / (lit + 0.12) * chl
    # where it is crowded, all that grows is eaten and breathed away again
    breath = k47 * (0.10 + 0.40 * chl / np.where(blooming, bloom, bed.richest)) * chl
    made, used = GROWN_O2 * grown, GROWN_O2 * breath

    aerobic = do / (do + 0.6)
    decayed = 0.23 * k47 * aerobic * bod
    nitrified = 0.16 * bed.nitrifiers * 1.08**warm * do / (do + 1.5) * nh
    bed_demand = bed.sediment_demand * k47 * do / (do + 1.2) * (1 + 3.5 * stagnant) / depth
    speed = np.sqrt(np.maximum(acts.current, 0.01))
    exchange = (3.93 * speed / np.sqrt(depth) + 0.9 + 1.6 * acts.wind) * 1.024**warm / depth * (1 - 0.75 * stagnant)
    aired = exchange * (full - do) - _BUBBLES * np.maximum(do - _BUBBLING * full, 0.0)

    _, carbonic = carbonic_acid(temp, alk, dic)
    outgassed = 0.85 * exchange * (carbonic - 0.0155 * np.exp(-0.028 * (temp - 20.0)))

    hot = 1.0 / (1.0 + np.exp(-(temp - 28.0) / 0.7))
    starved = 1.0 / (1.0 + (do / 1.2) ** 2)
    freed = bed.release * (0.02 + 1.1 * hot * starved) * (1 + 1.5 * stagnant) / depth
    stirred = bed.stirred * acts.traffic * (acts.current / 0.5) ** 2
    aim = bed.fine * acts.traffic**0.4 + stirred
    sunk = bed.settling / depth
    lifted = sunk * np.maximum(aim - solids, 0.0)
    mud = bed.mud_demand * lifted * do / (do + 0.6)
    sorbed = _SORBED * aim * sunk * (bed.held_po4 - po)
    # flocs: lighter than silt, so they sink slowly and are still there when it has settled
    floating = bed.richness * acts.fluff * (0.5 * bed.fine + stirred)
    rotted = 0.06 * k47 * organic

    change = np.empty_like(content)
    change[:, TEMP] = (0.62 + 0.2 * acts.wind) / depth * (acts.balance_c + 2.0 * stagnant - temp)
    change[:, DO] = aired + made - used - decayed - 4.57 * nitrified - bed_demand - mud - 0.5 * rotted * aerobic
    change[:, BOD] = 0.15 * used - decayed - 0.25 / depth * bod
    change[:, NH] = 0.05 * decayed + 0.3 * freed + 0.03 * rotted - nitrified - 0.007 * made * nh / (nh + 0.05)
    change[:, NO] = nitrified - 0.06 * k47 * (1 - aerobic) * no
    change[:, PO] = 0.004 * decayed + 0.003 * rotted + 0.05 * freed + sorbed - 0.0010 * made * po / (po + 0.01)
    change[:, SOLIDS] = sunk * (aim - solids)
    change[:, OM] = -0.02 * (om - 1.2)
    change[:, EC] = 0.0
    change[:, ALK] = -nitrified / 7.0 + 0.02 * freed
    change[:, DIC] = (used + decayed + bed_demand + 0.5 * rotted - made) / _O2_PER_MMOL - outgassed + 0.02 * freed
    change[:, CHL] = grown - breath - 0.04 * chl + 0.5 * np.maximum(bloom - chl, 0.0) * acts.light
    change[:, ORGANIC] = 0.35 * sunk * (floating - organic) - rotted + 0.02 * breath
    after = content + days * change
    return np.asarray(np.maximum(after, _FLOORS[:, None]))


def oxygen_full(temp: Floats, salinity: Floats) -> Floats:
    """Saturation in mg/L by Benson and Krause, of the nearest temperature within 0 to 40 °C."""
    return saturation(np.clip(temp, 0.0, 40.0), np.clip(salinity, 0.0, 40.0))


def carbonic_acid(temp: Floats, alk: Floats, dic: Floats) -> tuple[Floats, Floats]:
    """Hydrogen ions and dissolved CO2, both mmol/L, by carbonate alone (fresh water); strong acid and base beyond it.

    Constants of Plummer and Busenberg (1982), linear between 0 and 40 °C within 2 %.
    """
    k1 = 1e3 * 10 ** -(6.583 - 0.0117 * temp + 0.000106 * temp * temp)
    k2 = 1e3 * 10 ** -(10.627 - 0.0142 * temp + 0.0001 * temp * temp)
    # alk·H² + k1(alk − dic)·H + k1·k2(alk − 2 dic) = 0, the positive root
    a = np.where(np.abs(alk) < 1e-4, 1e-4, alk)
    b = k1 * (alk - dic)
    c = k1 * k2 * (alk - 2 * dic)
    root = np.sqrt(np.maximum(b * b - 4 * a * c, 0.0))
    hydrogen = np.where(b < 0, (-b + root) / (2 * a), -2 * c / np.maximum(b + root, 1e-30))
    acid = -alk + np.sqrt(np.maximum(k1 * np.maximum(dic, 0.0), 0.0))  # no alkalinity left: free acid
    hydrogen = np.where(alk <= 0.002, np.maximum(acid, 1e-6), hydrogen)
    water = 1e-8 * 10 ** (0.0325 * (temp - 25.0))  # ion product, mmol²/L²
    base = water / np.maximum(alk - 2 * dic, 1e-12)
    hydrogen = np.where(alk > 2 * dic - 1e-6, base, np.maximum(hydrogen, 1e-9))
    hydrogen = np.clip(hydrogen, 1e-9, 10.0)
    share = hydrogen * hydrogen / (hydrogen * hydrogen + k1 * hydrogen + k1 * k2)
    return hydrogen, share * np.maximum(dic, 0.0)


def ph(temp: Floats, alk: Floats, dic: Floats) -> Floats:
    """pH, between 2 and 12."""
    hydrogen, _ = carbonic_acid(temp, alk, dic)
    return np.asarray(3.0 - np.log10(hydrogen))


def measured(content: Floats) -> dict[str, Floats]:
    """What stations can measure, by parameter key in its canonical unit, of content (…, 13) with tracers last."""
    temp, do, bod, nh, no, po, solids, om, ec, alk, dic, chl, organic = (content[..., i] for i in range(len(TRACERS)))
    # unfiltered samples: clay carries little, flocs carry much (slopes of 平洲 and 鸦岗 in April 2021, between both)
    tp = po + 0.0005 * solids + 0.0024 * organic + 0.0011 * chl
    codmn = om + 0.32 * bod + 0.018 * chl + 0.003 * solids + 0.022 * organic
    salinity = np.maximum(ec - 60.0, 0.0) * 5.6e-4
    # oxygen sets the potential; a little ammonia more lowers it (sulphide comes with it)
    orp = -260.0 + 520.0 * do / (do + 0.65) - 18.0 * np.log1p(nh) - 20.0 * (do < 0)
    return {
        "water_temp": temp,
        "ph": ph(temp, alk, dic),
        "do": do,
        "conductivity": ec,
        "turbidity": solids + organic + 0.12 * chl,
        "codmn": codmn,
        "codcr": 3.1 * codmn + 1.5,
        "bod5": 0.68 * bod + 0.6,
        "nh3n": nh,
        "tp": tp,
        "tn": nh + no + 0.03 * bod + 0.001 * solids + 0.02 * organic,
        "orp": orp,
        "transparency": 150.0 / np.maximum(0.9 + 0.055 * (solids + organic) + 0.03 * chl, 0.5),
        "chla": chl,
        "algae": 28.0 * chl,
        "salinity": salinity,
        "fdom": 6.0 + 2.2 * om,
    }
