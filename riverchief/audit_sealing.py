"""Seal the audit trail: sign Merkle roots and publish them outside the database.

A root is made once an hour, and within a minute of the closing of a case; nothing new, no root.

The key is a file of its own, made by ``riverchief setup secrets`` or at the first seal; beside it lies its public half,
which every check needs and nobody has to hide. A root goes to a file of lines (``audit.roots_file``; put it on another
machine's disk or a write-once medium) and, where an address is set, as a signed CloudEvent ``river.audit.root``.
"""

import json
import os
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import httpx
import structlog
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from governance.assessment.model import CLASSES_ACTION
from governance.audit import merkle
from governance.audit import trail as audit_trail
from governance.audit.merkle import ProofInvalid, Root
from governance.incidents import cloudevents
from governance.incidents.model import EntryKind
from governance.notify import channels
from governance.notify.contacts import Channel
from governance.verification import roots
from infra import outgoing
from infra.database import Database
from infra.errors import ConfigurationError, StorageUnavailable, text_of
from infra.periodic import PeriodicWorker
from infra.texts import say
from infra.times import DAY_MS, beijing_day, rfc3339
from ingest.analysis import live_classes
from riverchief.settings import Settings, secret

EVERY_S = 60.0
SEAL_MS = 3_600_000
"""Longest time between an entry and the root over it: until then whoever owns the database can still change it."""
CLOSING = tuple(f"incident.{what}" for what in (EntryKind.CLOSED, EntryKind.REJECTED, EntryKind.FALSE_ALARM))
"""Entries that are sealed at once."""
TIMEOUT_S = 10.0
EVENT = "river.audit.root"
_END = b"-----END PUBLIC KEY-----"

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)


def new_key() -> tuple[bytes, bytes]:
    """A new signing key: its private and its public half, PEM."""
    key = Ed25519PrivateKey.generate()
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return private, public_pem(key.public_key())


def public_pem(key: Ed25519PublicKey) -> bytes:
    """A public key as PEM."""
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def key_file(settings: Settings) -> Path:
    """File of the signing key."""
    return settings.audit.key_file or settings.data / "audit-key.pem"


def public_file(settings: Settings) -> Path:
    """File of its public half, after those of previous keys."""
    return key_file(settings).with_suffix(".pub")


def roots_file(settings: Settings) -> Path:
    """File of the published roots."""
    return settings.audit.roots_file or settings.data / "audit-roots.jsonl"


def signing_key(settings: Settings) -> Ed25519PrivateKey:
    """The key of this site; made when the settings name none and there is none yet.

    Raises ConfigurationError when it cannot be read or is no Ed25519 key.
    """
    file = key_file(settings)
    if not file.exists() and settings.audit.key_file is None:
        _make(file)
    try:
        found = load_pem_private_key(file.read_bytes(), None)
    except OSError as error:
        raise ConfigurationError(say("audit_root.key_unreadable", file=file, error=error.strerror)) from error
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise ConfigurationError(say("audit_root.key_no_pem", file=file)) from None
    if not isinstance(found, Ed25519PrivateKey):
        raise ConfigurationError(say("audit_root.key_kind", file=file))
    return found


def _make(file: Path) -> None:
    private, public = new_key()
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as stream:
            stream.write(private)
            stream.flush()
            os.fsync(stream.fileno())
        with file.with_suffix(".pub").open("ab") as stream:  # after a restore those of the keys before are there
            stream.write(public)
            stream.flush()
            os.fsync(stream.fileno())  # an empty one lets nothing start after a power loss
    except FileExistsError:
        return  # another process of this site was first
    except OSError as error:
        raise ConfigurationError(say("audit_root.key_unwritable", file=file, error=error.strerror)) from error
    log.info("a key for the trail was made; keep a copy of its public half elsewhere", file=str(file))


def public_keys(settings: Settings) -> list[Ed25519PublicKey]:
    """The public keys of this site, none where none was made yet; raises ConfigurationError."""
    file = public_file(settings)
    if file.exists():
        return read_public(file)
    return [signing_key(settings).public_key()] if key_file(settings).exists() else []


def read_public(file: Path) -> list[Ed25519PublicKey]:
    """The Ed25519 public keys in a PEM file, at least one; raises ConfigurationError."""
    try:
        blocks = [block for block in file.read_bytes().split(_END) if block.strip()]
        keys = [load_pem_public_key(block + _END + b"\n") for block in blocks]
    except OSError as error:
        raise ConfigurationError(say("file.unreadable", file=file, error=error.strerror)) from error
    except (ValueError, UnsupportedAlgorithm):
        raise ConfigurationError(say("audit_root.no_public", file=file)) from None
    ours = [key for key in keys if isinstance(key, Ed25519PublicKey)]
    if not ours:
        raise ConfigurationError(say("audit_root.public_kind", file=file))
    return ours


def outside_roots(settings: Settings) -> list[Root]:
    """The roots of the site's file outside the database; none where there is none yet. Raises ConfigurationError."""
    file = roots_file(settings)
    return read_roots(file) if file.exists() else []


def read_roots(file: Path) -> list[Root]:
    """The roots of a file of lines; raises ConfigurationError naming the line that is none."""
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(say("audit_root.roots_unreadable", file=file, error=error)) from error
    found = []
    for number, line in enumerate(lines, 1):
        try:
            if line.strip():
                found.append(merkle.read_root(json.loads(line)))
        except (ValueError, ProofInvalid) as error:
            raise ConfigurationError(
                say("audit_root.no_root", file=file, number=number, error=text_of(error))
            ) from None
    return found


class Sealing(PeriodicWorker):
    """Makes the roots, and gives them to the places outside until each has them.

    ``origin`` is the CloudEvents source of the site; ``url`` gets every root as an event signed with ``password``,
    ``mail`` as a line.
    """

    def __init__(
        self,
        database: Database,
        key: Ed25519PrivateKey,
        *,
        origin: str,
        file: Path,
        clock_ms: Callable[[], int],
        url: str | None = None,
        password: str | None = None,
        mail: Channel | None = None,
    ) -> None:
        super().__init__("sealing")
        self._database = database
        self._key = key
        self._origin = origin
        self._file = file
        self._clock_ms = clock_ms
        self._url = url
        self._password = password
        self._mail = mail
        self._broken = ""
        self.last_error = ""

    def next_round(self) -> float:
        try:
            self.seal_if_due()
            self.last_error = self._broken or self.send()
        except StorageUnavailable as error:
            self.last_error = str(error)
        except Exception as error:
            self.last_error = str(error)
            log.exception("the trail could not be sealed")
        return EVERY_S

    def seal_if_due(self) -> Root | None:
        """Seal the trail where the last root is an hour old or a case was closed since."""
        now_ms = self._clock_ms()
        self._record_classes(now_ms)
        with self._database.read() as connection:
            last = roots.newest(connection)
            closed = last is not None and audit_trail.contains_action(connection, CLOSING, after_n=last.size)
        if last is not None and not closed and 0 <= now_ms - last.at_ms < SEAL_MS:
            return None
        return self.seal()

    def _record_classes(self, now_ms: int) -> None:
        """The class that every reach shows is an entry a day, from which an assessment is made again later."""
        with self._database.read() as connection:
            last = audit_trail.list_entries(connection, kind="water", id="reaches", limit=1)
            if last and beijing_day(last[0].at_ms) >= beijing_day(now_ms):
                return
            found = live_classes.current_classes(connection, live_classes.REACH)
        current = {
            key: live_classes.audit_entry(one)
            for key, one in found.items()
            if now_ms - one.at_ms < DAY_MS  # an older one says nothing of this day
        }
        if current:
            body = {"reaches": current}
            with self._database.write() as connection:
                audit_trail.append(
                    connection, CLASSES_ACTION, kind="water", id="reaches", body=body, by="riverchief", at_ms=now_ms
                )

    def seal(self) -> Root | None:
        """Seal the trail now; None when nothing was added since the last root."""
        with self._database.write() as connection:
            made = roots.seal(connection, self._key, origin=self._origin, now_ms=self._clock_ms())
        if made is None:
            return None
        if made.faults:
            self._broken = f"the trail is not whole: {made.faults[0].detail}"
            log.error("the trail is not whole", entries=made.root.size, first=made.faults[0].detail)
        log.info("the trail is sealed", entries=made.root.size, root=made.root.root)
        return made.root

    def send(self) -> str:
        """Give the roots to every place outside that lacks them; what went wrong, '' for nothing."""
        with self._database.read() as connection:
            waiting = roots.list_roots(connection, unsent=True)
        for root in waiting:
            try:
                append_line(self._file, root)
                if self._url and self._password:
                    post(self._url, self._password, root)
                if self._mail:
                    send_mail(self._mail, root)
            except (OSError, httpx.HTTPError) as error:
                reason = _reason(error)
                log.warning("a root of the trail waits", entries=root.size, error=reason)
                return f"the root of {root.size} entries has not reached every place outside: {reason}"
            with self._database.write() as connection:
                roots.mark_sent(connection, root, self._clock_ms())
        return ""


def _reason(error: Exception) -> str:
    """The reason of an error without the address, which may hold a secret."""
    if isinstance(error, httpx.HTTPStatusError):
        return f"HTTP {error.response.status_code}"
    return str(error) or type(error).__name__


def as_line(root: Root) -> str:
    """A root as files and mails hold it."""
    return json.dumps(asdict(root), ensure_ascii=False, separators=(",", ":"))


def send_mail(mail: Channel, root: Root) -> None:
    """Send a root to a mailbox; raises OSError where the mail server does not take it."""
    outcome = channels.send(mail, f"{EVENT} {root.size} {root.root[:16]}", as_line(root))
    if not outcome.ok:
        raise OSError(outcome.error)


def append_line(file: Path, root: Root) -> None:
    """Put a root at the end of the file, unless it stands there already."""
    line = as_line(root)
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("a+", encoding="utf-8") as stream:
        stream.seek(0)
        if any(existing.rstrip("\n") == line for existing in stream):
            return
        stream.write(line + "\n")
        stream.flush()
        os.fsync(stream.fileno())


def event(root: Root) -> cloudevents.Event:
    """The CloudEvent of a root; the same root has the same id."""
    event_id = f"audit-root-{root.size}-{root.root[:16]}"
    envelope = {
        "specversion": "1.0",
        "id": event_id,
        "source": root.origin,
        "type": EVENT,
        "subject": f"audit/{root.size}",
        "time": rfc3339(root.at_ms),
        "datacontenttype": "application/json",
        "data": asdict(root),
    }
    return cloudevents.Event(event_id, EVENT, json.dumps(envelope, ensure_ascii=False, separators=(",", ":")))


def post(url: str, password: str, root: Root) -> None:
    """Send a root to an address; 2xx and 409 (it has it) are an answer, anything else raises httpx.HTTPError."""
    made = event(root)
    body = made.body.encode()
    headers = cloudevents.sign(password, made.id, int(time.time()), body)
    headers["content-type"] = cloudevents.CONTENT_TYPE
    with outgoing.guarded():
        answer = httpx.post(url, content=body, headers=headers, timeout=TIMEOUT_S)
    if answer.status_code != httpx.codes.CONFLICT:
        answer.raise_for_status()


def sealing(settings: Settings, database: Database, clock_ms: Callable[[], int]) -> Sealing:
    """The job of a site by its settings; raises ConfigurationError for a key that cannot be used."""
    server, address = secret(settings.notices.mail, settings.notices.mail_file), settings.audit.roots_mail
    return Sealing(
        database,
        signing_key(settings),
        origin=settings.site.source,
        file=roots_file(settings),
        clock_ms=clock_ms,
        url=settings.audit.roots_url,
        password=secret(settings.outbox.secret, settings.outbox.secret_file),
        mail=channels.mail(server, address, {}) if server and address else None,
    )
