"""Publish the dashboards to Grafana over its HTTP API; dashboards that people changed are left alone.

Whose hand was last on a dashboard is read from Grafana's own list of versions. Each of ours carries the message
``riverchief <digest>``, the digest of what was published: when the newest version has it, nobody has touched the
dashboard since, and when the digest is that of today's code there is nothing to do. Comparing the content itself would
not tell: Grafana rewrites dashboards when it migrates them.
"""

import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from grafana_client.api import GrafanaApi
from grafana_client.client import GrafanaClientError, GrafanaException
from requests.exceptions import RequestException

from infra.errors import ConfigurationError, Refused, StorageUnavailable, WaterError
from infra.texts import say

FOLDER_UID: Final = "riverchief"
FOLDER_TITLE: Final = "河长 Riverchief"
TIMEOUT_S: Final = 15.0

_MESSAGE = re.compile(r"riverchief ([0-9a-f]{16})")


class Done(StrEnum):
    """Result of publishing one dashboard."""

    CREATED = "created"
    UPDATED = "updated"
    UNCHANGED = "unchanged"


@dataclass(frozen=True, slots=True)
class Published:
    """One dashboard after publishing; ``url`` is its path in Grafana."""

    uid: str
    done: Done
    url: str


@dataclass(frozen=True, slots=True)
class _Published:
    """A dashboard in Grafana; ``digest`` is that of our last publication, None when somebody else edited it since."""

    version: int
    url: str
    provisioned: bool
    digest: str | None
    by: str


def publish(
    boards: Sequence[Mapping[str, Any]], *, url: str, token: str | None, force: bool = False
) -> list[Published]:
    """Bring Grafana to where the code is. ``boards`` are dashboards as Grafana's API takes them, each with its uid.

    Nothing is written when one of them may not be: a dashboard edited by hand (unless ``force``), one that is
    provisioned from a file. Publishing twice changes nothing.

    Raises Refused naming those dashboards, ConfigurationError for an address or token Grafana does not accept, and
    StorageUnavailable when it cannot be reached. No message holds the token.
    """
    api = _connect(url, token)
    with _translated(url):
        existing = {board["uid"]: _find(api, board["uid"]) for board in boards}
        _refuse(existing, force)
        _ensure_folder(api)
        return [_write(api, board, existing[board["uid"]], force) for board in boards]


def digest(board: Mapping[str, Any]) -> str:
    """A fingerprint of a dashboard's content."""
    text = json.dumps(board, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _connect(url: str, token: str | None) -> Any:
    """The client, which has no types of its own."""
    if not re.fullmatch(r"https?://[^/\s@]+(/\S*)?", url):
        raise ConfigurationError(say("grafana.address"))
    if token is None:
        raise ConfigurationError(say("grafana.no_token"))
    prefix = url.rstrip("/") + "/"  # a Grafana below a path needs the stroke before "api"
    return GrafanaApi.from_url(prefix, credential=token, timeout=TIMEOUT_S)


def _find(api: Any, uid: str) -> _Published | None:
    found = _or_none(lambda: api.dashboard.get_dashboard(uid))
    if found is None:
        return None
    meta = found["meta"]
    versions = api.dashboard_versions.get_dashboard_versions(dashboard_uid=uid)
    if isinstance(versions, Mapping):  # since Grafana 12 the list stands inside an object
        versions = versions["versions"]
    newest = max(versions, key=lambda version: int(version["version"]), default={"message": ""})
    ours = _MESSAGE.fullmatch(newest["message"] or "")
    return _Published(
        version=int(found["dashboard"]["version"]),
        url=str(meta.get("url", "")),
        provisioned=bool(meta.get("provisioned", False)),
        digest=ours[1] if ours else None,
        by=str(newest.get("createdBy") or meta.get("updatedBy") or "somebody"),
    )


def _refuse(existing: Mapping[str, _Published | None], force: bool) -> None:
    provisioned = [uid for uid, one in existing.items() if one is not None and one.provisioned]
    if provisioned:
        raise Refused(say("grafana.provisioned", known=", ".join(provisioned)))
    edited = [f"{uid} (by {one.by})" for uid, one in existing.items() if one is not None and one.digest is None]
    if edited and not force:
        raise Refused(say("grafana.edited", known=", ".join(edited)))


def _ensure_folder(api: Any) -> None:
    if _or_none(lambda: api.folder.get_folder(FOLDER_UID)) is None:
        api.folder.create_folder(FOLDER_TITLE, uid=FOLDER_UID)


def _write(api: Any, board: Mapping[str, Any], existing: _Published | None, force: bool) -> Published:
    uid, wanted = board["uid"], digest(board)
    if existing is not None and existing.digest == wanted:
        return Published(uid, Done.UNCHANGED, existing.url)
    version = {} if existing is None else {"version": existing.version}
    body = {
        "dashboard": {**board, "id": None, **version},
        "folderUid": FOLDER_UID,
        "message": f"riverchief {wanted}",
        "overwrite": force,
    }
    try:
        answer = api.dashboard.update_dashboard(body)
    except GrafanaClientError as error:
        raise _as_error(error, uid) from error
    return Published(uid, Done.CREATED if existing is None else Done.UPDATED, str(answer["url"]))


def _as_error(error: GrafanaClientError, uid: str) -> WaterError:
    """Translate Grafana's refusal of one dashboard."""
    status = error.response.get("status") if isinstance(error.response, Mapping) else None
    if error.status_code == 412 and status == "version-mismatch":
        return Refused(say("grafana.at_once", uid=uid))
    if error.status_code == 412 and status == "name-exists":
        return Refused(say("grafana.same_title", uid=uid))
    if error.status_code in (401, 403):
        return _denied(error.status_code)
    return ConfigurationError(say("grafana.not_taken", uid=uid, status=error.status_code, words=_error_message(error)))


def _denied(status: int) -> ConfigurationError:
    if status == 401:
        return ConfigurationError(say("grafana.unknown_token"))
    return ConfigurationError(say("grafana.forbidden"))


def _error_message(error: GrafanaException) -> str:
    message = error.response.get("message") if isinstance(error.response, Mapping) else None
    return str(message or "no reason given")[:300]


def _or_none(ask: Callable[[], Any]) -> Any:
    """The requested object, None when Grafana has none."""
    try:
        return ask()
    except GrafanaClientError as error:
        if error.status_code == 404:
            return None
        raise


@contextmanager
def _translated(url: str) -> Iterator[None]:
    """The client's errors as ours, without anything the request carried."""
    try:
        yield
    except GrafanaClientError as error:
        if error.status_code in (401, 403):
            raise _denied(error.status_code) from None
        message = say("grafana.answered", url=url, status=error.status_code, words=_error_message(error))
        raise ConfigurationError(message) from None
    except (GrafanaException, RequestException) as error:
        raise StorageUnavailable(say("grafana.away", url=url, error=type(error).__name__)) from None
    except (KeyError, TypeError, ValueError) as error:
        raise ConfigurationError(say("grafana.something_else", url=url, error=type(error).__name__)) from None
