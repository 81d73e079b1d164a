"""Entities as the two versions write them, with their links, and what hangs on them where it is expanded."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode

from api.requests import instant
from api.sta import filters
from api.sta.filters import Scope
from api.sta.model import ROWS, TIME, Entity, Kind, Site, Stream, kinds
from api.sta.observations import Observations, Page, Reading
from api.sta.options import Options, Pair
from api.sta.refusals import limit
from infra.errors import ConfigurationError
from infra.times import rfc3339
from ingest.storage.port import ReadingStore

MOST_ENTITIES = 50_000
"""Entities of one answer, with all that is expanded."""


@dataclass(frozen=True, slots=True)
class Words:
    """How a version spells what is not of an entity itself."""

    id: str
    own: str
    prefix: str

    def of(self, word: str, owner: str = "") -> str:
        return f"{owner}{self.prefix}{word}"


WORDS = {"1.1": Words("@iot.id", "@iot.selfLink", "@iot."), "2.0": Words("id", "@id", "@")}


class Answers:
    """The answers of a version to one request; ``base`` is the address of its root, without a slash at the end."""

    def __init__(self, site: Site, store: ReadingStore, version: str, base: str, now_ms: int) -> None:
        self.kinds = kinds(version)
        self.words = WORDS[version]
        self.base = base
        self._site = site
        self._store = store
        self._version = version
        self._now_ms = now_ms
        self._left = MOST_ENTITIES

    # -- finding -------------------------------------------------------------------------------------------------------

    def get(self, kind: str, key: str) -> Entity | None:
        """An entity by its id."""
        if kind == "Observations":
            return self._observation(key)
        subject = self._site.subject(kind, key)
        if subject is None:
            return None
        row = {"id": key} | ROWS[kind](subject, self._version)
        if kind == "Things":
            row["properties"]["retired"] = key in self._site.registry.retired
        return Entity(self.kinds[kind], key, row, subject)

    def _observation(self, key: str) -> Entity | None:
        station, _, rest = key.partition(".")
        parameter, _, time = rest.partition(".")
        try:
            at_ms = instant("id", time)
        except ConfigurationError:
            return None
        stream = self._site.stream_at(station, parameter, at_ms)
        if stream is None or time != rfc3339(at_ms):
            return None
        return self._observations().one(stream, at_ms)

    def observation(self, reading: Reading) -> dict[str, Any]:
        """A reading as an entity with its links."""
        return self.entity(self._observations().entity(reading), Options())

    def _observations(self) -> Observations:
        return Observations(self._store, self.kinds["Observations"], self._version)

    def follow(self, entity: Entity, link: str) -> Entity | None:
        """The entity at the end of a link to one."""
        to = entity.kind.links[link].to
        return next((found for key in self._linked(entity, link) if (found := self.get(to, key))), None)

    def _linked(self, entity: Entity, link: str) -> list[str]:
        return self._site.linked(entity.kind.name, entity.id, entity.subject, link)

    def belongs(self, entity: Entity, link: str, found: Entity) -> bool:
        """Whether ``found`` is one of those that a link of ``entity`` leads to."""
        if found.kind.name == "Observations":
            return found.subject in self._site.streams_of(entity.kind.name, entity.id)
        return found.id in self._linked(entity, link)

    def page(self, kind: Kind, owner: Entity | None, link: str, options: Options) -> Page:
        """The entities of a set, or at the end of a link to many; the mark of a page of theirs is a number to skip."""
        scope = Scope(kind, self.kinds, self.follow, self._now_ms)
        if options.filter is not None:
            filters.test_of(options.filter, scope)  # what cannot be answered is refused before anything is read
        if kind.name == "Observations":
            return self._observations().page(self._streams(owner), options, scope)
        keys = self._site.ids(kind.name) if owner is None else self._linked(owner, link)
        order = [(filters.compiled(one.tree, scope).value, one.descending) for one in options.order]
        found: Sequence[Entity | str] = keys
        if options.filter is not None or order:
            entities = [entity for key in keys if (entity := self.get(kind.name, key)) is not None]
            if options.filter is not None:
                test = filters.test_of(options.filter, scope)
                entities = [entity for entity in entities if test(entity)]
            for value, descending in reversed(order):
                entities.sort(key=lambda e, value=value: filters.sort_key(value(e)), reverse=descending)  # type: ignore[misc]
            found = entities
        end = options.skip + options.top
        chosen = [one if isinstance(one, Entity) else self.get(kind.name, one) for one in found[options.skip : end]]
        following = str(end) if options.top and len(found) > end else None
        return Page([one for one in chosen if one], following, len(found) if options.count else None)

    def _streams(self, owner: Entity | None) -> list[Stream]:
        if owner is None:
            return list(self._site.streams.values())
        return self._site.streams_of(owner.kind.name, owner.id)

    # -- writing -------------------------------------------------------------------------------------------------------

    def collection(self, kind: Kind, owner: Entity | None, link: str, options: Options) -> dict[str, Any]:
        """A page as an answer of its own."""
        path = kind.name if owner is None else f"{address(owner.kind.name, owner.id)}/{link}"
        page = self.page(kind, owner, link, options)
        value = [self.entity(one, options) for one in page.entities]
        if options.data_array:
            value = self._arrays(page.entities, value, options)
        body: dict[str, Any] = {self.words.of("count"): page.count} if page.count is not None else {}
        if page.following is not None:
            body[self.words.of("nextLink")] = self._next(path, kind, options, page.following)
        return body | {"value": value}

    def entity(self, one: Entity, options: Options) -> dict[str, Any]:
        """An entity with its links, or the properties that are selected, and what is expanded."""
        self._left -= 1
        if self._left < 0:
            raise limit("$expand (entities)", MOST_ENTITIES)
        words, own = self.words, f"{self.base}/{address(one.kind.name, one.id)}"
        chosen = options.select
        body: dict[str, Any] = {}
        if chosen is None or "id" in chosen:
            body |= {words.own: own, words.id: one.id} if chosen is None else {words.id: one.id}
        for name, value in one.row.items():
            if name != "id" and (chosen is None or name in chosen):
                body[name] = self.written(one.kind, name, value)
        expanded = dict(options.expand)
        for name, link in one.kind.links.items():
            if name in expanded:
                inner = expanded[name]
                if link.many:
                    body |= self._inner(one, name, inner)
                else:
                    found = self.follow(one, name)
                    body[name] = None if found is None else self.entity(found, inner)
            elif chosen is None or name in chosen:
                body[words.of("navigationLink", name)] = f"{own}/{name}"
        return body

    def _inner(self, owner: Entity, link: str, options: Options) -> dict[str, Any]:
        kind = self.kinds[owner.kind.links[link].to]
        page = self.page(kind, owner, link, options)
        body: dict[str, Any] = {link: [self.entity(one, options) for one in page.entities]}
        if page.count is not None:
            body[self.words.of("count", link)] = page.count
        if page.following is not None:
            path = f"{address(owner.kind.name, owner.id)}/{link}"
            body[self.words.of("nextLink", link)] = self._next(path, kind, options, page.following)
        return body

    def written(self, kind: Kind, name: str, value: Any) -> Any:
        """A property as it is written."""
        if value is None or kind.properties[name] != TIME:
            return value
        return rfc3339(value) if self._version == "1.1" else {"start": rfc3339(value)}

    def _arrays(self, entities: list[Entity], rows: list[dict[str, Any]], options: Options) -> list[dict[str, Any]]:
        """Observations as data arrays, one for each Datastream in a row."""
        names = options.select or tuple(self.kinds["Observations"].properties)
        names = tuple(name for name in names if name in self.kinds["Observations"].properties)
        found: list[dict[str, Any]] = []
        link = self.words.of("navigationLink", "Datastream")
        for entity, row in zip(entities, rows, strict=True):
            address_ = f"{self.base}/{address('Datastreams', entity.subject.id)}"
            if not found or found[-1][link] != address_:
                components = [self.words.id if name == "id" else name for name in names]
                found.append({link: address_, "components": components, "dataArray": []})
            found[-1]["dataArray"].append([row[self.words.id if name == "id" else name] for name in names])
        for one in found:
            one[self.words.of("count", "dataArray")] = len(one["dataArray"])
        return found

    def _next(self, path: str, kind: Kind, options: Options, following: str) -> str:
        mark = "$skiptoken" if kind.name == "Observations" else "$skip"
        kept: list[Pair] = [(n, text) for n, text in options.given if n not in ("$skip", "$skiptoken")]
        query = urlencode([*kept, (mark, following)], safe="$(),;=/':@", quote_via=quote)
        return f"{self.base}/{path}?{query}"


def address(kind: str, key: str) -> str:
    """The path of an entity below the root."""
    return f"{kind}({_literal(key)})"


def _literal(key: str) -> str:
    doubled = key.replace("'", "''")
    return "'" + quote(doubled, safe="':") + "'"
