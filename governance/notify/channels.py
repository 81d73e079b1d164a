"""Send a message through a channel by apprise: WeCom, DingTalk, mail, SMS gateways, webhooks and others.

Of an answer only the status is kept: a service or the library may quote the address, which is a secret.
"""

import logging
import re
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode

from governance.notify.contacts import Channel, Directory
from infra import outgoing
from infra.errors import ConfigurationError
from infra.texts import both, say

TIMEOUTS = {"cto": "5", "rto": "15"}
"""Seconds to connect and to wait for an answer, unless an address says otherwise."""

_STATUS = re.compile(r"\berror[= ](\d{3})\b")


@dataclass(frozen=True, slots=True)
class Outcome:
    """Whether a channel accepted a message, and why not, in both languages and without secrets."""

    ok: bool
    error: str | None = None


def check(directory: Directory) -> None:
    """Raises ConfigurationError naming the contact whose channel cannot be used; sends nothing."""
    for contact in directory.contacts:
        for number, channel in enumerate(contact.channels, 1):
            if channel.kind != "webpush" and _service(channel) is None:
                raise ConfigurationError(say("notices.no_address", key=contact.key, number=number, kind=channel.kind))


def host(channel: Channel) -> tuple[str, int] | None:
    """Where a channel connects to, if its address says so (webhooks, mail); None for services with their own hosts."""
    service = _service(channel)
    if service is None or channel.kind not in {"json", "jsons", "form", "forms", "xml", "xmls", "mailto", "mailtos"}:
        return None
    name = getattr(service, "smtp_host", None) or service.host
    port = service.port or (443 if channel.kind.endswith("s") else 80)
    return str(name), int(port)


def mail(server: str, address: str, headers: Mapping[str, str]) -> Channel:
    """The channel to an address through a mail server (``mailtos://user:password@host?from=…``), as plain text."""
    given = {"to": address, "format": "text", **{f"+{name}": value for name, value in headers.items()}}
    return Channel(f"{server}{'&' if '?' in server else '?'}{urlencode(given, quote_via=quote)}")


def is_mail_server(server: str) -> bool:
    """Whether an address is one of a mail server that can be used; sends nothing."""
    channel = mail(server, "somebody@example.org", {})
    return channel.kind in {"mailto", "mailtos"} and _service(channel) is not None


def send(channel: Channel, title: str, body: str) -> Outcome:
    """Send one message; never raises. ``title`` is used where there is one, as in mail."""
    import apprise

    service = _service(channel)
    if service is None:
        return Outcome(False, both(say("notice.channel_unknown", channel=channel.kind)))
    try:
        capture: Any = apprise.LogCapture  # untyped
        with outgoing.guarded() as passage, capture(level=logging.WARNING, fmt="%(thread)d %(message)s") as captured:
            ok = service.notify(body=body, title=title if channel.kind.startswith("mailto") else "")
            thread_prefix = f"{threading.get_ident()} "
            output = "\n".join(line for line in captured.getvalue().splitlines() if line.startswith(thread_prefix))
    except Exception as error:  # plugins raise anything
        return Outcome(False, both(say("notice.channel_failed", channel=channel.kind, error=type(error).__name__)))
    if ok:
        return Outcome(True)
    if passage.refused:
        return Outcome(False, both(say("outgoing.refused", address=passage.refused)))
    status = _STATUS.search(output)
    if status is None:
        return Outcome(False, both(say("notice.channel_silent", channel=channel.kind)))
    return Outcome(False, both(say("notice.channel_refused", channel=channel.kind, answer=f"HTTP {status[1]}")))


def _service(channel: Channel) -> Any:
    import apprise  # slow to import

    logging.getLogger("apprise").propagate = False  # it quotes addresses,
    logging.getLogger("urllib3").setLevel(logging.INFO)  # and so does this on its lowest level
    joint = "&" if "?" in channel.url else "?"
    more = "&".join(f"{name}={value}" for name, value in TIMEOUTS.items() if f"{name}=" not in channel.url)
    return apprise.Apprise.instantiate(f"{channel.url}{joint}{more}" if more else channel.url, suppress_exceptions=True)
