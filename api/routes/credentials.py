"""The logins of devices: made and shown once, listed without secrets, revoked; and the claim of a new device."""

from dataclasses import dataclass
from typing import Annotated

from fastapi import Path, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from api import problems
from api.access import Who, on_behalf, reaches
from api.context import Context, Devices
from api.problems import Problem
from api.registries import Registries, find
from api.requests import By, RequestContext, RequestRegistries, Words
from api.responses import answer, viewed, when
from api.routes.router import subject_router
from governance.organisation.roles import Actor
from infra.texts import say
from ingest.devices import credentials as credentials_store
from ingest.devices.claims import MAX_SECRET_LENGTH, ClaimRefused, TooManyClaims
from ingest.devices.credentials import Credential, Endpoint, IssuedLogin
from ingest.storage import registry as registry_store
from sensors.wire.telemetry import topic

router = subject_router("devices")

CLAIMS = "/claims"
"""Open to whoever has the secret of a label: a device has no token yet."""

Key = Annotated[str, Path(max_length=64)]
User = Annotated[str, Path(max_length=80)]


# -- what comes in and goes out ----------------------------------------------------------------------------------------


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class Rotation(_Strict):
    """What becomes of the logins that the station has already."""

    others_end_in_s: int | None = Field(
        None, ge=0, le=30 * 86_400, description="null: they stay until revoked; 0: they end now"
    )
    by: By = None


class NewClaim(_Strict):
    """What is printed on the label of a device."""

    station: Words = Field(pattern=r"^[a-z0-9][a-z0-9-]{0,63}$")
    secret: Words = Field(min_length=1, max_length=MAX_SECRET_LENGTH, repr=False)


@dataclass(frozen=True, slots=True)
class BrokerView:
    """Where a device connects; ``authority`` (PEM) is what it must trust where ``tls``."""

    host: str
    port: int
    tls: bool
    authority: str | None


@dataclass(frozen=True, slots=True)
class Topics:
    """What a device publishes on, and where it reads commands."""

    telemetry: str
    status: str
    event: str
    reply: str
    command: str


@dataclass(frozen=True, slots=True)
class IssuedView:
    """A new login. The password is shown this once."""

    station: str
    user: str
    password: str
    created_at: str | None
    broker: BrokerView
    topics: Topics


@dataclass(frozen=True, slots=True)
class CredentialView:
    """A login; it is in force unless ``revoked_at`` is given, and ends at ``expires_at`` by itself."""

    user: str
    created_at: str | None
    created_by: str
    expires_at: str | None
    revoked_at: str | None
    revoked_by: str | None


@dataclass(frozen=True, slots=True)
class CredentialsOfStation:
    """All logins a station ever had, newest first. ``online`` is what its device, or the broker for it, said last."""

    station: str
    online: bool | None
    online_at: str | None
    items: list[CredentialView]


# -- the routes --------------------------------------------------------------------------------------------------------


@router.get("/stations/{key}/credentials", response_model=CredentialsOfStation)
def list_credentials(context: RequestContext, who: Who, registries: RequestRegistries, key: Key) -> Response:
    """The logins of a station's devices, without their secrets."""
    _within_reach(who, registries, key)
    with context.database.read() as connection:
        found = credentials_store.listing(connection, key)
        online, online_at_ms = registry_store.online(connection)[key]
    return answer(CredentialsOfStation(key, online, when(online_at_ms), [_view(one) for one in found]))


@router.post("/stations/{key}/credentials", status_code=201, response_model=IssuedView)
def issue_credentials(
    context: RequestContext, who: Who, registries: RequestRegistries, key: Key, rotation: Rotation | None = None
) -> Response:
    """Make a login for a station's device; the password is shown this once.

    The station's other logins stay until they are revoked, or end after `others_end_in_s`, so that a device can be
    given the new one while the old one still works. 503 where no broker is administered, or it cannot be told.
    """
    issued, endpoint = issue(context, registries, who, key, rotation or Rotation())
    return _shown_once(issued, endpoint)


def issue(
    context: Context, registries: Registries, who: Actor, key: str, rotation: Rotation
) -> tuple[IssuedLogin, Endpoint]:
    """Make a login, and where the device reaches the broker; raises Problem where no broker is administered."""
    _within_reach(who, registries, key)
    by = on_behalf(who, rotation.by).name
    devices = _devices(context)
    return devices.credentials.issue(key, by, others_end_in_s=rotation.others_end_in_s), devices.endpoint


@router.delete("/stations/{key}/credentials/{user}", status_code=204)
def revoke_credentials(
    context: RequestContext, who: Who, registries: RequestRegistries, key: Key, user: User
) -> Response:
    """Take a login away: a device that is connected by it is cut off. Again is no harm."""
    revoke(context, registries, who, key, user)
    return Response(status_code=204)


def revoke(context: Context, registries: Registries, who: Actor, key: str, user: str) -> None:
    """Take a login away; raises NotFound, and Problem where no broker is administered."""
    _within_reach(who, registries, key)
    _devices(context).credentials.revoke(key, user, who.name)


@router.post(CLAIMS, status_code=201, response_model=IssuedView)
def claim(context: RequestContext, request: Request, new: NewClaim) -> Response:
    """Give a device its login for the secret on its label, once; the secret is void afterwards. Needs no token.

    403 for a wrong secret, one used or expired, and an unknown station alike; 429 where too much is tried.
    """
    devices = _devices(context)
    address = request.client.host if request.client else ""
    try:
        return _shown_once(devices.claims.claim(new.station, new.secret, address), devices.endpoint)
    except ClaimRefused as error:
        raise Problem(problems.FORBIDDEN, error.text) from None
    except TooManyClaims as error:
        raise Problem(problems.TOO_MANY, error.text, headers={"Retry-After": f"{error.wait_s + 0.5:.0f}"}) from None


# -- how it is done ----------------------------------------------------------------------------------------------------


def _within_reach(who: Actor, registries: Registries, key: str) -> None:
    """Raises Forbidden, and NotFound for a station that nobody bound to regions can ask about."""
    if who.regions is not None:
        reaches(who, find(registries.recent(), key))


def _devices(context: Context) -> Devices:
    if context.devices is None:
        raise Problem(
            problems.UNAVAILABLE,
            say("device.no_broker"),
        )
    return context.devices


def _shown_once(issued: IssuedLogin, endpoint: Endpoint) -> Response:
    broker = BrokerView(endpoint.host, endpoint.port, endpoint.tls, endpoint.authority)
    topics = Topics(*(topic(issued.station, kind) for kind in Topics.__slots__))
    shown = IssuedView(issued.station, issued.user, issued.password, when(issued.created_at_ms), broker, topics)
    return answer(shown, 201, {"Cache-Control": "no-store"})


def _view(one: Credential) -> CredentialView:
    return viewed(CredentialView, one)
