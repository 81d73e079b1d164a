"""Terms of office: who is appointed to which water, and who answers for a place at an instant. Pure."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from governance.organisation.regions import Place, Regions
from governance.organisation.roles import Role


@dataclass(frozen=True, slots=True)
class Appointment:
    """A term: ``name`` is chief of a region's water, or of one reach in it, from ``since_ms`` to ``until_ms``.

    ``deputy_of`` names the chief whom a deputy (河长助理) helps.
    """

    id: int
    name: str
    role: Role
    region: str
    reach: str
    deputy_of: str
    since_ms: int
    until_ms: int | None

    def in_force(self, at_ms: int) -> bool:
        return self.since_ms <= at_ms and (self.until_ms is None or at_ms < self.until_ms)


def chief_of(terms: Iterable[Appointment], name: str, regions: Regions, at_ms: int, place: Place | None = None) -> str:
    """The chief to whom somebody's work at an instant is attributed.

    A deputy's work is that of the chief they help, or of the chief of the same water where no chief is named. Of
    several terms the one over ``place`` counts. Anybody else's work is their own.
    """
    held = list(terms)
    deputy_terms = [a for a in held if a.name == name and a.role is Role.DEPUTY and a.in_force(at_ms)]
    if place is not None:
        up = regions.up(place.region)
        deputy_terms.sort(key=lambda one: (one.reach not in ("", place.reach), one.region not in up))
    for term in deputy_terms:
        found = term.deputy_of or responsible(held, Place(term.region, term.reach), regions, at_ms)
        if found:
            return found
    return name


def responsible(terms: Iterable[Appointment], place: Place, regions: Regions, at_ms: int) -> str:
    """The chief who answers for a place: of its reach in the lowest region that has one; "" when nobody does."""
    held = [a for a in terms if a.in_force(at_ms) and a.role in (Role.CHIEF, Role.GENERAL_CHIEF)]
    for code in regions.up(place.region):
        here = [a for a in held if a.region == code]
        for wanted in (place.reach, ""):
            found = [a.name for a in here if a.reach == wanted and (wanted or not a.reach)]
            if found:
                return found[-1]
    return ""


def offices(
    terms: Iterable[Appointment], places: Collection[str], reach: str, regions: Regions, at_ms: int
) -> list[Appointment]:
    """The terms over the water of a reach that lies in these regions: in force or to come, none that has ended.

    Those of the regions above count, too; the highest region first, a chief before who helps them, then by beginning.
    """
    depth = {code: len(regions.up(code)) for place in places for code in regions.up(place)}
    found = [
        a for a in terms if a.region in depth and a.reach in ("", reach) and (a.until_ms is None or a.until_ms > at_ms)
    ]
    return sorted(found, key=lambda a: (depth[a.region], a.region, a.role is Role.DEPUTY, a.since_ms, a.id))


def on_the_sign(held: Iterable[Appointment], at_ms: int) -> list[Appointment]:
    """Those of some terms whose holders stand on the sign at the water (河长公示牌): chiefs in office, no deputies."""
    return [a for a in held if a.role in (Role.CHIEF, Role.GENERAL_CHIEF) and a.in_force(at_ms)]
