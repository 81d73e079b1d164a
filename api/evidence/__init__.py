"""The evidence pack of an incident: gathered from the stores (``gather``), set as a PDF (``pdf``)."""

from collections.abc import Sequence
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from api import export_log
from api.evidence import gather
from api.names import who
from governance.audit.merkle import Root
from infra.database import Database
from infra.texts import say
from ingest.storage.port import ReadingStore
from sensors.parameters import Catalogue


def pack(  # noqa: PLR0913  (a part of the pack each)
    database: Database,
    store: ReadingStore,
    catalogue: Catalogue,
    incident_id: int,
    *,
    by: str,
    role: str = "",
    origin: str,
    site: str = "",
    photos: Path | None,
    now_ms: int,
    keys: Sequence[Ed25519PublicKey] = (),
    outside: Sequence[Root] = (),
    language: str = "zh",
) -> bytes:
    """The pack of an incident as a PDF, and the entry that it was exported. Raises NotFound and StorageUnavailable.

    ``by`` is a person in a ``role``; without a role the account on the server that ran a command. ``site`` is what the
    site is called.
    """
    from api.evidence import pdf  # loads the libraries of pages and fonts

    found = gather.gather(
        database,
        store,
        catalogue,
        incident_id,
        by=by,
        origin=origin,
        photos=photos,
        now_ms=now_ms,
        keys=keys,
        outside=outside,
    )
    shown = who(by, role) if role else say("evidence.by_command", user=by)
    made = pdf.typeset(found, language, by=shown, site=site or origin)
    body = {"format": "pdf", "language": language}
    export_log.note(database, "evidence", f"incident/{incident_id}", made, body, by=by, role=role, at_ms=now_ms)
    return made
