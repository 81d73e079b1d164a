"""External platforms: their addresses, secrets and vocabulary, from ``config/platforms.toml``. Pure.

The file says in JMESPath where a value stands in a message of theirs.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import jmespath
from jmespath.exceptions import JMESPathError
from jmespath.parser import ParsedResult
from pydantic import AfterValidator, Field, SecretStr

from governance.incidents import cloudevents
from governance.incidents.lifecycle import right_of
from governance.incidents.model import Action, State
from governance.organisation.roles import RIGHTS, Role
from infra.errors import ConfigurationError, InvalidValue, NotFound
from infra.texts import say
from infra.toml_file import Table, parse

NOT_BY_CALLBACK = frozenset({Action.MERGE, Action.SPLIT, Action.EMERGENCY, Action.EVALUATE, Action.PAUSE})
"""Actions that need an argument which a callback does not carry: a number, list, grade, score or reason."""

NO_ACTION = ""
"""Stands for an action in the file where their status asks for none here."""


def _place(text: str) -> str:
    try:
        jmespath.compile(text)
    except JMESPathError as error:
        raise InvalidValue(say("platforms.no_path", text=text, error=error)) from None
    return text


_Path = Annotated[str, AfterValidator(_place)]


class _Callback(Table):
    incident: _Path = "data.incident"
    status: _Path = "data.status"
    by: _Path = "data.by"
    comment: _Path = "data.comment"
    seq: _Path | None = None
    actions: dict[str, str] = Field(min_length=1)


class _Listing(Table):
    url: str | None = None
    items: _Path = "items"
    next: _Path | None = None
    incident: _Path = "incident"
    state: _Path = "state"
    at: _Path | None = None
    states: dict[str, list[str]] = Field(min_length=1)


class _Platform(Table):
    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,63}$")]
    zh: str = ""
    region: str = ""
    secret: SecretStr | None = None
    secret_file: Path | None = None
    callback: _Callback | None = None
    list: _Listing | None = None


class _File(Table):
    platform: list[_Platform] = Field(default_factory=list)


@dataclass(frozen=True, slots=True)
class CallbackWords:
    """Where the values stand in a callback, and the action for each status of theirs; None: no action."""

    incident: ParsedResult
    status: ParsedResult
    by: ParsedResult
    comment: ParsedResult
    seq: ParsedResult | None
    actions: Mapping[str, Action | None]


@dataclass(frozen=True, slots=True)
class ListWords:
    """Where their list is and where the values stand in it; ``states``: our states that match a state of theirs."""

    url: str | None
    items: ParsedResult
    next: ParsedResult | None
    incident: ParsedResult
    state: ParsedResult
    at: ParsedResult | None
    states: Mapping[str, frozenset[State]]


@dataclass(frozen=True, slots=True)
class Platform:
    """One external platform; ``secret`` signs what goes either way (Standard Webhooks).

    ``region`` is the code of where it may act, "" everywhere.
    """

    name: str
    zh: str
    secret: str = field(repr=False)
    callback: CallbackWords | None = None
    list: ListWords | None = None
    region: str = ""


@dataclass(frozen=True, slots=True)
class Platforms:
    """All platforms, in the order of the file."""

    known: Sequence[Platform] = ()

    def named(self, name: str) -> Platform:
        """The platform of this name; raises NotFound."""
        for one in self.known:
            if one.name == name:
                return one
        names = ", ".join(one.name for one in self.known) or "-"
        raise NotFound(say("platform.unknown", name=name[:64], known=names))


def read(text: str, secret_in: Callable[[Path], str], usual_secret: str | None) -> Platforms:
    """The platforms of a file's text. ``secret_in`` reads a secret's file, ``usual_secret`` is that of the deliveries.

    Raises ConfigurationError naming the first thing that is wrong, never a secret.
    """
    file = parse(text, _File)
    found: dict[str, Platform] = {}
    for one in file.platform:
        if one.name in found:
            raise ConfigurationError(say("platforms.twice", name=one.name))
        found[one.name] = _platform(one, secret_in, usual_secret)
    return Platforms(tuple(found.values()))


def _platform(one: _Platform, secret_in: Callable[[Path], str], usual_secret: str | None) -> Platform:
    if one.secret is not None and one.secret_file is not None:
        raise ConfigurationError(say("platforms.both", name=one.name))
    secret = usual_secret
    if one.secret is not None:
        secret = one.secret.get_secret_value()
    elif one.secret_file is not None:
        secret = secret_in(one.secret_file)
    if not secret:
        raise ConfigurationError(say("platforms.no_secret", name=one.name))
    try:
        cloudevents.sign(secret, "check", 0, b"")
    except ConfigurationError as error:
        raise ConfigurationError(say("platforms.wrong", name=one.name, error=error.text)) from error
    callback = None if one.callback is None else _callback(one.name, one.callback)
    listing = None if one.list is None else _list(one.name, one.list)
    return Platform(one.name, one.zh or one.name, secret, callback, listing, one.region)


def _callback(name: str, table: _Callback) -> CallbackWords:
    actions: dict[str, Action | None] = {}
    for word, action in table.actions.items():
        if action != NO_ACTION and action not in list(Action):
            names = ", ".join(Action)
            raise ConfigurationError(say("platforms.no_action", name=name, action=action, word=word, known=names))
        actions[word] = None if action == NO_ACTION else _possible_action(name, word, Action(action))
    c = jmespath.compile
    seq = None if table.seq is None else c(table.seq)
    return CallbackWords(c(table.incident), c(table.status), c(table.by), c(table.comment), seq, actions)


def _possible_action(name: str, word: str, action: Action) -> Action:
    """The action, if a platform may take it and a callback can carry its arguments; else ConfigurationError."""
    possible = tuple(a for a in Action if a not in NOT_BY_CALLBACK and right_of(a) in RIGHTS[Role.PLATFORM])
    if action not in possible:
        raise ConfigurationError(
            say("platform.not_theirs", name=name, word=word, action=action, known=", ".join(possible))
        )
    return action


def _list(name: str, table: _Listing) -> ListWords:
    states: dict[str, frozenset[State]] = {}
    for word, ours in table.states.items():
        strange = [state for state in ours if state not in list(State)]
        if strange:
            names = ", ".join(State)
            raise ConfigurationError(say("platforms.no_state", name=name, strange=strange[0], word=word, known=names))
        states[word] = frozenset(State(state) for state in ours)
    if table.url is not None and not table.url.startswith(("https://", "http://")):
        raise ConfigurationError(say("platforms.list_url", name=name))
    c = jmespath.compile
    following = None if table.next is None else c(table.next)
    at = None if table.at is None else c(table.at)
    return ListWords(table.url, c(table.items), following, c(table.incident), c(table.state), at, states)


def value_at(place: ParsedResult | None, body: Any) -> Any:
    """The value at a place of a message; None where there is none, or where the expression does not apply."""
    if place is None:
        return None
    try:
        return place.search(body)
    except JMESPathError:
        return None


def incident_number(value: Any) -> int | None:
    """The number of an incident as a platform writes it, a whole number or its digits; None for anything else."""
    if isinstance(value, str) and value.isascii() and value.isdecimal() and len(value) < 11:
        value = int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 < value < 2**31 else None
