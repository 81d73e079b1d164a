"""Contacts: whom messages reach by which channels, and the steps of escalation. Pure.

Contacts come from the people, and at some sites from a file as well (``config/contacts.sample.toml``). The address of a
channel is a secret: it is in no ``repr``, log or answer, where a channel is named by its kind and its last letters.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import time
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, SecretStr, model_validator

from governance.incidents.finding import Colour
from infra.errors import ConfigurationError, InvalidValue, NotFound
from infra.texts import Text, say
from infra.toml_file import Table, parse

MIN_ADDRESS_CHARS = 12
"""Letters of an address of which the last four may be shown."""


class ContactRole(StrEnum):
    """Role of a contact."""

    OFFICE = "office"
    """河长办: on call in turn; all of them where nobody is on call."""
    CHIEF = "chief"
    """A chief, a deputy or a grid worker: answers for regions or reaches."""
    ENGINEER = "engineer"
    """Maintains sensors: gets messages of colour blue."""


@dataclass(frozen=True, slots=True)
class Channel:
    """A channel to a contact; ``short``: it takes the first line only, as an SMS gateway does."""

    url: str = field(repr=False)
    short: bool = False

    @property
    def kind(self) -> str:
        """The scheme of its address, which may be shown."""
        return self.url.partition("://")[0].lower()

    @property
    def ending(self) -> str:
        """The last characters of a long address, which distinguish two of a kind; "" of a short one."""
        rest = self.url.partition("://")[2].rstrip("/")
        return rest[-4:] if len(rest) >= MIN_ADDRESS_CHARS else ""


@dataclass(frozen=True, slots=True)
class Contact:
    """A recipient of messages; ``regions`` and ``reaches`` empty: everywhere. ``least``: nothing less urgent.

    ``quiet``: the contact's own quiet hours, None for those of the site. ``in_file``: the file of contacts has it.
    """

    key: str
    name: str
    language: Literal["zh", "en"] = "zh"
    roles: tuple[ContactRole, ...] = ()
    regions: tuple[str, ...] = ()
    reaches: tuple[str, ...] = ()
    least: Colour = Colour.BLUE
    channels: tuple[Channel, ...] = ()
    phone: str = field(default="", repr=False)
    quiet: tuple[time, time] | None = None
    in_file: bool = False


@dataclass(frozen=True, slots=True)
class Place:
    """Where a station lies: its name, regions (lowest first) and reach, and the name of the region it is grouped by."""

    name: Text
    regions: tuple[str, ...] = ()
    reach: str = ""
    region: Text | None = None

    @property
    def bucket(self) -> str:
        """The key by which messages are gathered: the lowest region."""
        return self.regions[0] if self.regions else ""


@dataclass(frozen=True, slots=True)
class Directory:
    """All contacts."""

    contacts: tuple[Contact, ...] = ()

    def get(self, key: str) -> Contact | None:
        """The contact of this key; None when it is gone."""
        return next((one for one in self.contacts if one.key == key), None)

    def named(self, key: str) -> Contact:
        """The contact of this key; raises NotFound."""
        found = self.get(key)
        if found is None:
            keys = ", ".join(one.key for one in self.contacts) or "-"
            text = say("notice.contact_unknown", key=key[:64], known=keys)
            raise NotFound(text)
        return found

    def quiet_of(self, key: str) -> tuple[time, time] | None:
        """The contact's own quiet hours; None for those of the site."""
        found = self.get(key)
        return None if found is None else found.quiet

    def called(self, name: str) -> Contact | None:
        """The contact of a person by name or key; None without one."""
        return next((one for one in self.contacts if name in (one.name, one.key)), None)

    def office(self, duty: Sequence[Sequence[str]]) -> list[tuple[str, ...]]:
        """Who of the office is called, first to last; ``duty``: the keys on call by rank."""
        all_keys = {one.key for one in self.contacts}
        ranks = [tuple(key for key in keys if key in all_keys) for keys in duty]
        ranks = [keys for keys in ranks if keys]
        everybody = tuple(one.key for one in self.contacts if ContactRole.OFFICE in one.roles)
        return ranks or ([everybody] if everybody else [])

    def chiefs(self, place: Place) -> list[tuple[str, ...]]:
        """The chiefs of a place, nearest first: those of the reach, then of each region upwards."""
        chiefs = [one for one in self.contacts if ContactRole.CHIEF in one.roles]
        of_reach = tuple(c.key for c in chiefs if place.reach and place.reach in c.reaches)
        levels = [tuple(c.key for c in chiefs if code in c.regions) for code in place.regions]
        everywhere = tuple(c.key for c in chiefs if not c.regions and not c.reaches)
        return [keys for keys in (of_reach, *levels, everywhere) if keys]

    def chiefs_of(self, region: str) -> tuple[str, ...]:
        """The chiefs of one region, without those of regions in it or above it."""
        return tuple(c.key for c in self.contacts if ContactRole.CHIEF in c.roles and region and region in c.regions)

    def engineers(self, place: Place) -> tuple[str, ...]:
        """Who maintains the sensors of a place."""
        return tuple(
            one.key
            for one in self.contacts
            if ContactRole.ENGINEER in one.roles and (not one.regions or set(one.regions) & set(place.regions))
        )

    def steps(self, place: Place, colour: Colour, duty: Sequence[Sequence[str]]) -> list[tuple[str, ...]]:
        """The steps of escalation at a place: the contacts called first, and those called without a confirmation.

        Nobody is in two steps. Red and orange: who is on call and the nearest chief, then the next of each. Yellow: the
        chiefs, the office only where there are none. Blue: engineers, or the office.
        """
        office, chiefs = self.office(duty), self.chiefs(place)
        if colour is Colour.BLUE:
            engineers = self.engineers(place)
            rows = [engineers] if engineers else office[:1]
        elif colour is Colour.YELLOW:
            rows = chiefs or office
        else:
            count = max(len(office), len(chiefs))
            rows = [(*_item_or_empty(office, i), *_item_or_empty(chiefs, i)) for i in range(count)]
        seen: set[str] = set()
        found = []
        for row in rows:
            keys = tuple(key for key in dict.fromkeys(row) if key not in seen and self._wants(key, colour))
            seen |= set(row)
            if keys:
                found.append(keys)
        return found

    def with_people(self, people: Sequence[Contact]) -> "Directory":
        """The directory with the people of the record, whose keys are their names.

        Whoever is in both, under key or name, has the roles and places of both, and the channels of the record where it
        has some, else the file's. Whoever is not in the file and has no channels cannot be reached and is left out.
        """
        by_key = {one.key: one for one in people}
        merged = []
        in_file: set[str] = set()
        for one in self.contacts:
            found = by_key.get(one.key) or by_key.get(one.name)
            if found is None:
                merged.append(one)
                continue
            in_file.add(found.key)
            way = found if found.channels else one
            roles = tuple(dict.fromkeys((*one.roles, *found.roles)))
            merged.append(
                replace(
                    one,
                    language=way.language,
                    least=way.least,
                    channels=way.channels,
                    phone=found.phone,
                    quiet=found.quiet,
                    name=found.name or one.name,
                    roles=roles,
                    regions=tuple(dict.fromkeys((*one.regions, *found.regions))),
                    reaches=tuple(dict.fromkeys((*one.reaches, *found.reaches))),
                )
            )
        return Directory((*merged, *(one for one in people if one.channels and one.key not in in_file)))

    def _wants(self, key: str, colour: Colour) -> bool:
        found = self.get(key)
        return found is not None and colour.rank <= found.least.rank


def _item_or_empty(rows: Sequence[tuple[str, ...]], index: int) -> tuple[str, ...]:
    return rows[index] if index < len(rows) else ()


class _Channel(Table):
    url: SecretStr | None = None
    url_file: Path | None = None
    short: bool = False

    @model_validator(mode="after")
    def _one_address(self) -> "_Channel":
        if (self.url is None) == (self.url_file is None):
            raise InvalidValue(say("notices.url_or_file"))
        return self


class _Contact(Table):
    key: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
    name: Annotated[str, Field(min_length=1, max_length=100)]
    language: Literal["zh", "en"] = "zh"
    roles: list[ContactRole] = Field(default_factory=list)
    regions: list[str] = Field(default_factory=list)
    reaches: list[str] = Field(default_factory=list)
    least: Colour = Colour.BLUE
    channels: list[_Channel] = Field(min_length=1)


class _File(Table):
    contact: list[_Contact] = Field(default_factory=list)


def read(text: str, secret_in: Callable[[Path], str]) -> Directory:
    """The contacts of a file's text; ``secret_in`` reads an address's file.

    Raises ConfigurationError naming the first thing that is wrong, never an address.
    """
    file = parse(text, _File)
    found: dict[str, Contact] = {}
    for one in file.contact:
        if one.key in found:
            raise ConfigurationError(say("notices.twice", key=one.key))
        channels = tuple(_channel(one.key, channel, secret_in) for channel in one.channels)
        found[one.key] = Contact(
            one.key,
            one.name,
            one.language,
            tuple(one.roles),
            tuple(one.regions),
            tuple(one.reaches),
            one.least,
            channels,
            in_file=True,
        )
    return Directory(tuple(found.values()))


def _channel(key: str, channel: _Channel, secret_in: Callable[[Path], str]) -> Channel:
    if channel.url is not None:
        url = channel.url.get_secret_value().strip()
    else:
        assert channel.url_file is not None
        url = secret_in(channel.url_file)
    if "://" not in url:
        raise ConfigurationError(say("notices.no_scheme", key=key))
    return Channel(url, channel.short)


def role_name(role: ContactRole) -> Text:
    """The name of a role in both languages."""
    return say(f"notice.role_{role}")
