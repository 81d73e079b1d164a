"""One record at work: what it says, by whose clock, for whom, and in which transaction."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

import sqlalchemy as sa
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from api.access import needed_right
from api.context import Context
from api.registries import Registries
from api.requests import instant
from governance.organisation.regions import NOWHERE, Place, Regions
from governance.organisation.roles import Actor
from governance.reports.field_records import FieldPhoto, Outcome
from infra.errors import ConfigurationError, InvalidValue
from infra.texts import Text, say
from infra.times import rfc3339
from ingest.storage import maintenance as maintenance_store
from ingest.storage import registry as registry_store
from sensors.stations import Registry, Station

M = TypeVar("M", bound="Content")
B = TypeVar("B", bound=BaseModel)


class Content(BaseModel):
    """The content of a record, its `new`. Fields that are not known, from an app of another version, are ignored."""

    model_config = ConfigDict(extra="ignore")

    @model_validator(mode="before")
    @classmethod
    def _without_nothing(cls, given: Any) -> Any:
        """A field that nobody filled in is null; its default holds."""
        return {k: v for k, v in given.items() if v is not None} if isinstance(given, Mapping) else given


class Position(Content):
    """A position as a phone measured it."""

    lon: float = Field(ge=-180, le=180, allow_inf_nan=False)
    lat: float = Field(ge=-90, le=90, allow_inf_nan=False)
    accuracy_m: float | None = Field(None, ge=0, allow_inf_nan=False)


@dataclass(frozen=True, slots=True)
class Result:
    """What came of a record. ``texts`` are sentences for the person; ``place`` is where it belongs."""

    outcome: Outcome
    texts: tuple[Text, ...] = ()
    made: Mapping[str, Any] = field(default_factory=dict)
    theirs: Mapping[str, Any] | None = None
    place: Place = NOWHERE


@dataclass(frozen=True, slots=True)
class Job:
    """A record that is to take effect. ``context`` writes into the transaction of ``connection``.

    ``off_ms`` is what the phone's clock lacks, ``at_ms`` when the record was made, by the right clock. ``insists``: it
    is to take effect although somebody else did something in the meantime. ``made`` is what an earlier version became.
    """

    context: Context
    connection: sa.Connection
    registries: Registries
    regions: Callable[[], Regions]
    actor: Actor
    id: str
    body: Mapping[str, Any]
    off_ms: int
    at_ms: int
    photos: tuple[FieldPhoto, ...] = ()
    insists: bool = False
    made: Mapping[str, Any] = field(default_factory=dict)

    def content(self, shape: type[M]) -> M:
        """The content of the record. Raises ConfigurationError naming the field without a valid value."""
        return _valid(shape, self.body.get("new"))

    def api(self, shape: type[B], row: Mapping[str, Any]) -> B:
        """What a route of the API is asked. Raises ConfigurationError naming what has no valid value."""
        return _valid(shape, row)

    def about(self, name: str) -> Any:
        """What the record is about; None where that is not said."""
        found = self.body.get("object")
        return found.get(name) if isinstance(found, Mapping) else None

    @property
    def base(self) -> str | None:
        """The mark of what the phone knew when the person began."""
        base = self.body.get("base")
        return base if isinstance(base, str) and base else None

    def time(self, name: str, text: str | None, otherwise_ms: int) -> int:
        """An instant of the phone's clock, corrected."""
        return otherwise_ms if text is None else instant(name, text) + self.off_ms

    def corrected(self, name: str, text: str) -> str:
        """An instant of the phone's clock as text, corrected."""
        return rfc3339(instant(name, text) + self.off_ms) if self.off_ms else text

    def must(self, method: str, path: str) -> None:
        """Raises Forbidden where the person lacks the right of a route."""
        self.actor.must(needed_right(method, path))

    @property
    def station_key(self) -> str:
        key = self.about("station")
        if not isinstance(key, str) or not key:
            raise ConfigurationError(say("field_server.bad_value", name="station"))
        return key

    def registry(self) -> Registry:
        """The registry as it stands in this transaction."""
        return registry_store.load(self.connection, self.context.catalogue)

    def in_service(self, station: Station, at_ms: int) -> None:
        """Raises ConfigurationError for work at a station after it was retired."""
        gone = maintenance_store.retirements(self.connection).get(station.key)
        if gone is not None and gone.since_ms <= at_ms:
            raise ConfigurationError(say("field_server.retired", station=Text(station.zh, station.en)))


def _valid(shape: type[B], given: Any) -> B:
    try:
        return shape.model_validate(given)
    except ValidationError as error:
        where = ".".join(str(part) for part in error.errors()[0]["loc"]) or "new"
        raise ConfigurationError(say("field_server.bad_value", name=where[:80])) from None
    except InvalidValue as error:
        raise ConfigurationError(error.text) from None


def own_region(actor: Actor, regions: Regions) -> str:
    """The highest region of a person, for a record without a place; "" for a person of all regions."""
    codes = {*(actor.regions or ()), *(region for _, region in actor.waters if region)}
    return min(codes, key=lambda code: (regions.depth(code), code), default="")
