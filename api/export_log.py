"""What leaves the house is an entry of the trail: who took out what, and the hash by which the file is known again."""

import hashlib
from collections.abc import Mapping
from typing import Any

from governance.audit import trail as audit_trail
from infra.database import Database


def note(
    database: Database, what: str, subject: str, data: bytes, body: Mapping[str, Any], *, by: str, role: str, at_ms: int
) -> None:
    """Write down an export: ``what`` is ``evidence`` or ``assessment``, ``subject`` of what, ``data`` the file."""
    recorded = {**body, "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    with database.write() as connection:
        audit_trail.append(
            connection, f"export.{what}", kind="export", id=subject, body=recorded, by=by, role=role, at_ms=at_ms
        )
