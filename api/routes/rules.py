"""The rules in force, every version that ever was, and what people do about them at a station: reviews and mutes."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

from fastapi import Response
from pydantic import Field

from api.access import Who, author
from api.context import Context
from api.registries import find
from api.requests import By, RequestContext, RequestRegistries, Strict, Words, instant
from api.responses import answer, viewed
from api.routes.router import subject_router
from governance.organisation.roles import Actor
from ingest.analysis import backtest_requests
from ingest.state import rule_publications
from ingest.state import rule_versions as rulebook
from ingest.state.rule_publications import Publication, Publisher, Tried
from ingest.storage import maintenance as store
from ingest.storage.changes import Author
from sensors.maintenance import Mute, Review, Verdict, make_review, plan_mute

router = subject_router("rules", "/rules")
at_stations = subject_router("rules", "/stations/{key}")


class NewReview(Strict):
    """A person's verdict on readings; it overrules all tests."""

    parameter: Words = Field("", description="left out: all of the station")
    since: str = Field(description="RFC 3339; the first reading meant")
    until: str = Field(description="RFC 3339; readings before it are meant")
    verdict: Literal["good", "suspect", "bad"]
    reason: Words = Field(min_length=1, max_length=1000)
    by: By = None


class Void(Strict):
    """The review was wrong itself."""

    by: By = None


class Agreement(Strict):
    """Another person looked at the readings and agrees."""

    by: By = None


class NewMute(Strict):
    """Planned work: until it ends the rules begin nothing at the station."""

    since: Annotated[str | None, Field(description="RFC 3339; now where not given")] = None
    until: str = Field(description="RFC 3339; at most 90 days after since")
    rules: list[Words] = Field(default_factory=list, description="ids; left out: all rules, silence too")
    reason: Words = Field(min_length=1, max_length=1000)
    by: By = None


class NewEnd(Strict):
    """The work was done earlier, or takes longer."""

    until: Annotated[str | None, Field(description="RFC 3339; now where not given")] = None
    by: By = None


class NewPublication(Strict):
    """The rules of a backtest that is done, asked for by somebody else."""

    backtest: int
    reason: Words = Field(min_length=1, max_length=1000)


@dataclass(frozen=True, slots=True)
class PublicationView:
    """Rules that were put in force by `by`, as `proposed_by` had tried them in `backtest`."""

    id: int
    at: str | None
    by: str
    proposed_by: str
    backtest: int
    reason: str


@dataclass(frozen=True, slots=True)
class RuleView:
    """One version of a rule; `until` is null while it is in force; `body` is the rule as TOML."""

    id: str
    version: str
    kind: str
    colour: str
    zh: str
    en: str
    body: str
    since: str | None
    until: str | None


@dataclass(frozen=True, slots=True)
class RuleList:
    """Rules by id; the versions of one rule: in force first."""

    items: list[RuleView]


@dataclass(frozen=True, slots=True)
class ReviewView:
    """A review; `void` ones are kept and count for nothing, nor do `pending` ones, until a `second` person agrees."""

    number: int
    parameter: str
    since: str | None
    until: str | None
    verdict: str
    reason: str
    by: str
    at: str | None
    void: bool
    pending: bool
    second: str


@dataclass(frozen=True, slots=True)
class ReviewList:
    """Reviews, newest first."""

    items: list[ReviewView]


@dataclass(frozen=True, slots=True)
class MuteView:
    """A mute; without `rules` it is of all."""

    number: int
    since: str | None
    until: str | None
    rules: tuple[str, ...]
    reason: str
    by: str


@dataclass(frozen=True, slots=True)
class MuteList:
    """Mutes, newest first."""

    items: list[MuteView]


@router.get("", response_model=RuleList)
def list_rules(context: RequestContext) -> Response:
    """The rules in force."""
    with context.database.read() as connection:
        return answer(RuleList([_rule(one) for one in rulebook.in_force(connection)]))


@router.post("/publications", status_code=201, response_model=PublicationView)
def publish_rules(context: RequestContext, who: Who, new: NewPublication) -> Response:
    """Put the rules of a backtest in force: the ingest takes them within seconds, without a restart.

    409 for whoever asked for the backtest (four eyes), without one that is done, and where the rules changed since.
    """
    made = publish(context, who, new.backtest, new.reason)
    return answer(viewed(PublicationView, made), 201)


def publish(context: Context, who: Actor, number: int, reason: str) -> Publication:
    """Publish the rules of a backtest. Raises NotFound and Refused."""
    by = Publisher(who.name, who.role, reason)
    with context.database.write() as connection:
        one = backtest_requests.get(connection, number)
        is_done = one.state == backtest_requests.DONE
        tried = Tried(one.id, one.by, one.created_at_ms, is_done, one.request["rules"])
        return rule_publications.publish(connection, tried, by, context.catalogue, context.clock_ms())


@router.get("/{rule}", response_model=RuleList)
def rule_versions(context: RequestContext, rule: str) -> Response:
    """All versions of a rule, the one in force first; `rule@version` names one. 404 where none ever was in force."""
    id_, _, wanted = rule.partition("@")
    with context.database.read() as connection:
        found = [rulebook.version(connection, id_, wanted)] if wanted else rulebook.versions(connection, id_)
    return answer(RuleList([_rule(one) for one in found]))


@at_stations.get("/reviews", response_model=ReviewList)
def list_reviews(context: RequestContext, registries: RequestRegistries, key: str) -> Response:
    """What people said of the station's readings, newest first."""
    find(registries.recent(), key)
    with context.database.read() as connection:
        return answer(ReviewList([_review(n, r) for n, r in reversed(store.reviews(connection, key))]))


@at_stations.post("/reviews", status_code=201, response_model=ReviewView)
def add_review(context: RequestContext, registries: RequestRegistries, who: Who, key: str, new: NewReview) -> Response:
    """Review readings as good or bad: findings based on bad ones are withdrawn, those of good ones are raised.

    One that takes readings out of an exceedance is `pending` until another person confirms it. 409 where a review that
    is not void covers the same readings.
    """
    by = author(who, new.by, context.clock_ms(), find(registries.recent(), key))
    ((number, made),) = record_reviews(context, key, by, [new])
    return answer(_review(number, made), 201)


def record_reviews(context: Context, key: str, by: Author, new: Sequence[NewReview]) -> list[tuple[int, Review]]:
    """Keep reviews of a station, all or none; their numbers and the reviews. Raises ConfigurationError and Refused."""
    now_ms = context.clock_ms()
    made = [
        make_review(
            key,
            one.parameter,
            (instant("since", one.since), instant("until", one.until)),
            Verdict(one.verdict),
            one.reason,
            by.by,
            now_ms,
            context.catalogue,
        )
        for one in new
    ]
    with context.database.write() as connection:
        made = [store.with_second_person(connection, one) for one in made]
        return [(store.add_review(connection, one, by), one) for one in made]


@at_stations.post("/reviews/{number}/confirm", response_model=ReviewView)
def confirm_review(
    context: RequestContext, registries: RequestRegistries, who: Who, key: str, number: int, agreed: Agreement
) -> Response:
    """Agree with a pending review, as another person than who gave it: it is in force from now on."""
    by = author(who, agreed.by, context.clock_ms(), find(registries.recent(), key))
    return answer(_review(number, agree_with_review(context, key, by, number)))


def agree_with_review(context: Context, key: str, by: Author, number: int) -> Review:
    """Confirm a pending review of a station. Raises NotFound, and Refused for the person who gave it."""
    with context.database.write() as connection:
        return store.confirm_review(connection, key, number, by)


@at_stations.post("/reviews/{number}/void", response_model=ReviewView)
def void_review(
    context: RequestContext, registries: RequestRegistries, who: Who, key: str, number: int, void: Void
) -> Response:
    """Take a review back: the readings get their own verdicts again."""
    by = author(who, void.by, context.clock_ms(), find(registries.recent(), key))
    return answer(_review(number, withdraw_review(context, key, by, number)))


def withdraw_review(context: Context, key: str, by: Author, number: int) -> Review:
    """Void a review of a station. Raises NotFound, and Refused where it is void already."""
    with context.database.write() as connection:
        return store.void_review(connection, key, number, by)


@at_stations.get("/mutes", response_model=MuteList)
def list_mutes(context: RequestContext, registries: RequestRegistries, key: str) -> Response:
    """Planned work at the station, newest first."""
    find(registries.recent(), key)
    with context.database.read() as connection:
        return answer(MuteList([_mute(n, m) for n, m in reversed(store.mutes(connection, key))]))


@at_stations.post("/mutes", status_code=201, response_model=MuteView)
def add_mute(context: RequestContext, registries: RequestRegistries, who: Who, key: str, new: NewMute) -> Response:
    """Announce planned work: the rules begin nothing at the station until it ends; what is on may still end."""
    by = author(who, new.by, context.clock_ms(), find(registries.recent(), key))
    return answer(_mute(*record_mute(context, key, by, new)), 201)


def record_mute(context: Context, key: str, by: Author, new: NewMute) -> tuple[int, Mute]:
    """Keep planned work at a station; its number and the mute. Raises ConfigurationError and Refused."""
    since_ms = context.clock_ms() if new.since is None else instant("since", new.since)
    span = since_ms, instant("until", new.until)
    with context.database.write() as connection:
        in_force = {one.rule for one in rulebook.in_force(connection)}
        made = plan_mute(key, span, tuple(new.rules), new.reason, by.by, in_force)
        return store.add_mute(connection, made, by), made


@at_stations.post("/mutes/{number}/end", response_model=MuteView)
def end_mute(
    context: RequestContext, registries: RequestRegistries, who: Who, key: str, number: int, end: NewEnd
) -> Response:
    """End a mute earlier or later than planned."""
    by = author(who, end.by, context.clock_ms(), find(registries.recent(), key))
    return answer(_mute(number, record_mute_end(context, key, number, by, end)))


def record_mute_end(context: Context, key: str, number: int, by: Author, end: NewEnd) -> Mute:
    """End a mute of a station earlier or later than planned. Raises NotFound, ConfigurationError and Refused."""
    until_ms = context.clock_ms() if end.until is None else instant("until", end.until)
    with context.database.write() as connection:
        return store.end_mute(connection, key, number, until_ms, by)


def _rule(one: rulebook.Version) -> RuleView:
    return viewed(RuleView, one, id=one.rule, zh=one.text.zh, en=one.text.en)


def _review(number: int, r: Review) -> ReviewView:
    return viewed(ReviewView, r, number=number)


def _mute(number: int, m: Mute) -> MuteView:
    return viewed(MuteView, m, number=number)
