"""The evidence pack of an incident: gathered from the stores (``gather``), set as a PDF (``pdf``)."""

from api import export_log
from api.evidence import gather
from api.evidence.gather import Sources
from api.names import who
from infra.texts import say


def pack(sources: Sources, incident_id: int, *, by: str, role: str = "", now_ms: int, language: str = "zh") -> bytes:
    """The pack of an incident as a PDF, and the entry that it was exported. Raises NotFound and StorageUnavailable.

    ``by`` is a person in a ``role``; without a role the account on the server that ran a command.
    """
    from api.evidence import pdf  # loads the libraries of pages and fonts

    found = gather.gather(sources, incident_id, by, now_ms)
    shown = who(by, role) if role else say("evidence.by_command", user=by)
    made = pdf.typeset(found, language, by=shown, site=sources.site or sources.origin)
    body = {"format": "pdf", "language": language}
    export_log.note(sources.database, "evidence", f"incident/{incident_id}", made, body, by=by, role=role, at_ms=now_ms)
    return made
