"""The health of the system ``/health``: what does not work and since when; ``?plain=1`` is text alone."""

import shutil
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa
from fastapi import APIRouter, Response
from starlette.concurrency import run_in_threadpool

from api.health import Health, Probe
from api.pages.menu import HEALTH
from api.pages.models import health as models
from api.pages.models.overview import Model
from api.pages.view import PageRoute, View, Viewing
from governance.notify import outbox
from governance.notify import store as notice_store
from governance.verification import roots
from infra.errors import StorageUnavailable
from ingest import quarantine

TOPICS = ("stations",)

router = APIRouter(include_in_schema=False, route_class=PageRoute)


@dataclass(frozen=True, slots=True)
class Figures:
    """What waits in the database, and when the trail was sealed (ms UTC; None: never)."""

    outbox: outbox.PendingCounts
    notices: notice_store.QueueCounts
    held: int
    sealed_ms: int | None


@router.get(HEALTH.path)
async def show(v: Viewing) -> Response:
    """The page, for everybody who is signed in."""
    health: Health = v.request.app.state.health
    probe = await run_in_threadpool(health.probe)
    picture = await v.live.now()
    return await run_in_threadpool(_render, v, probe, picture)


def _render(v: View, probe: Probe, picture: Model | None) -> Response:
    found = models.steps(probe)
    figures = _figures(v)
    verdict = models.verdict(probe, found, picture, _oldest_waiting_ms(v, figures))
    plain = v.query.get("plain") == "1"
    return v.render(
        "health_plain.html" if plain else "health.html",
        picture=picture,
        topics=TOPICS,
        probe=probe,
        verdict=verdict,
        sentence=models.sentence(verdict, v.moment(verdict.since_ms)),
        steps=found,
        figures=figures,
        disk=_disk(v.context.photos),
        size=models.size,
        newest=models.newest(picture) if picture else None,
        reporting=models.reporting(picture) if picture else None,
        silent=models.longest_silent(picture) if picture else (),
    )


def _figures(v: View) -> Figures | None:
    """None where the database does not answer."""
    try:
        with v.context.database.read() as connection:
            root = roots.newest(connection)
            return Figures(
                outbox.pending_counts(connection),
                notice_store.queue_counts(connection),
                sum(quarantine.counts(connection).values()),
                None if root is None else root.at_ms,
            )
    except (StorageUnavailable, sa.exc.SQLAlchemyError):
        return None


def _oldest_waiting_ms(v: View, figures: Figures | None) -> int | None:
    """Since when the delivery or message has waited that should have gone out first; None where none is due."""
    if figures is None:
        return None
    due = [figures.outbox.oldest_pending_at_ms if v.context.outward else None, figures.notices.oldest_due_at_ms]
    return min((at_ms for at_ms in due if at_ms is not None), default=None)


def _disk(folder: Path | None) -> tuple[int, int] | None:
    """Free and all bytes of the disk that holds the photos; None where that is not known."""
    if folder is None:
        return None
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    try:
        usage = shutil.disk_usage(folder)
    except OSError:
        return None
    return usage.free, usage.total
