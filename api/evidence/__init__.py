"""The evidence pack of an incident: gathered from the stores (``gather``), set as a PDF (``pdf``).

Each export is an entry of the trail: who took out what, and the hash by which the file is known again.
"""

import hashlib
from pathlib import Path

from api.evidence import gather, pdf
from governance import audit
from governance.database import Database
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
    language: str = "zh",
) -> bytes:
    """The pack of an incident as a PDF, and the entry that it was exported. Raises NotFound and StorageUnavailable."""
    found = gather.gather(database, store, catalogue, incident_id, by=by, origin=origin, photos=photos, now_ms=now_ms)
    made = pdf.typeset(found, language)
    body = {"format": "pdf", "language": language, "bytes": len(made), "sha256": hashlib.sha256(made).hexdigest()}
    with database.write() as connection:
        audit.append(
            connection,
            "export.evidence",
            kind="export",
            id=f"incident/{incident_id}",
            body=body,
            by=by,
            role=role,
            at_ms=now_ms,
        )
    return made
