"""The evidence pack of an incident: gathered from the stores (``gather``), set as a PDF (``pdf``)."""

from collections.abc import Sequence
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from api import exports
from api.evidence import gather, pdf
from governance.database import Database
from governance.merkle import Root
from ingest.storage.port import ReadingStore
from sensors.parameters import Catalogue


def pack(
    database: Database,
    store: ReadingStore,
    catalogue: Catalogue,
    incident_id: int,
    *,
    by: str,
    role: str = "",
    origin: str,
    photos: Path | None,
    now_ms: int,
    keys: Sequence[Ed25519PublicKey] = (),
    outside: Sequence[Root] = (),
    language: str = "zh",
) -> bytes:
    """The pack of an incident as a PDF, and the entry that it was exported. Raises NotFound and StorageUnavailable."""
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
    made = pdf.typeset(found, language)
    body = {"format": "pdf", "language": language}
    exports.note(database, "evidence", f"incident/{incident_id}", made, body, by=by, role=role, at_ms=now_ms)
    return made
