"""Which pages there are and who may see them: each stands for a route of the API and asks for its right. Pure."""

from dataclasses import dataclass

from api.access import needed_right
from governance.organisation.roles import Actor, Right


@dataclass(frozen=True, slots=True)
class Entry:
    """A page: its word in the catalogue (``frame.KEY``), its path, and the route below the prefix it stands for, with
    the method: most pages show, some are there to record."""

    key: str
    path: str
    route: str
    method: str = "GET"

    @property
    def right(self) -> Right:
        """What the route needs; a route that the table does not know is the administrator's."""
        return needed_right(self.method, self.route)


MAP = Entry("map", "/", "/stations")
INCIDENTS = Entry("incidents", "/incidents", "/incidents")
INCIDENT = Entry("incidents", "/incidents/{number}", "/incidents/-")
BOARD = Entry("board", "/board", "/incidents")
RIVERS = Entry("rivers", "/rivers", "/reaches")
RIVER = Entry("rivers", "/rivers/{key}", "/reaches/-/file")
PATROLS = Entry("patrols", "/patrols", "/patrols")
PATROL = Entry("patrols", "/patrols/{key}", "/patrols/-")
REGISTRY = Entry("registry", "/registry", "/registry/-")
MAINTENANCE = Entry("maintenance", "/maintenance", "/stations/-/visits", "POST")
ROUTE = Entry("maintenance", "/route", "/stations/-/visits", "POST")
MAINTENANCE_OF = Entry("maintenance", "/maintenance/{key}", "/stations/-/visits", "POST")
REVIEW = Entry("review", "/review", "/stations/-/reviews")
RULES = Entry("rules", "/rules", "/rules")
MESSAGES = Entry("messages", "/messages", "/notices")
ONCALL = Entry("oncall", "/oncall", "/oncall/now")
ASSESSMENT = Entry("assessment", "/assessment", "/assessments")
PEOPLE = Entry("people", "/people", "/people")
TRAIL = Entry("trail", "/trail", "/audit")
LEDGER = Entry("ledger", "/ledger", "/ledger")
QUARANTINE = Entry("quarantine", "/quarantine", "/quarantine")
HEALTH = Entry("health", "/health", "/ledger")
WALL = Entry("wall", "/wall", "/incidents")
REPORTED = Entry("reported", "/reported", "/me/reports")
REPORT = Entry("reported", "/reported/new", "/incidents", "POST")

ENTRIES = (
    MAP,
    INCIDENTS,
    BOARD,
    RIVERS,
    PATROLS,
    REGISTRY,
    MAINTENANCE,
    REVIEW,
    RULES,
    MESSAGES,
    ONCALL,
    ASSESSMENT,
    PEOPLE,
    TRAIL,
    LEDGER,
    QUARANTINE,
    HEALTH,
    WALL,
    REPORTED,
)
"""In the order of the menu."""


def menu(actor: Actor) -> tuple[Entry, ...]:
    """What this person's menu holds: no page that would turn them away."""
    return tuple(entry for entry in ENTRIES if actor.may(entry.right))
