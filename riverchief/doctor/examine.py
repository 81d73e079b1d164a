"""Run all checks at once, each with a time limit."""

import queue
import threading
import time
from collections.abc import Mapping

from infra.errors import ConfigurationError, WaterError
from riverchief.doctor import broker, database, place, servers
from riverchief.doctor.findings import Check, Finding, failure
from riverchief.settings import Settings

CHECK_TIMEOUT_S = 30.0
"""Limit of all checks; each request has a shorter timeout of its own."""

CHECKS: Mapping[str, Check] = {
    "settings": place.settings_,
    "data": place.folder,
    "database": database.database,
    "broker": broker.broker,
    "broker_admin": broker.administration,
    "influx": servers.influx,
    "grafana": servers.grafana_,
    "outbox": servers.outbox,
    "notices": servers.notices,
    "running": servers.running,
}


def examine(
    settings: Settings, *, checks: Mapping[str, Check] = CHECKS, patience_s: float = CHECK_TIMEOUT_S
) -> list[Finding]:
    """The findings of all checks, in the order of the checks. Returns within ``patience_s`` whatever hangs."""
    answers: queue.SimpleQueue[tuple[str, Finding | None]] = queue.SimpleQueue()
    for name, check in checks.items():
        # a daemon: one that hangs must not keep the process from ending
        threading.Thread(
            target=_run_check, args=(name, check, settings, answers), name=f"doctor-{name}", daemon=True
        ).start()
    found: dict[str, list[Finding]] = {name: [] for name in checks}
    open_ = set(checks)
    until = time.monotonic() + patience_s
    while open_:
        try:
            name, finding = answers.get(timeout=max(0.0, until - time.monotonic()))
        except queue.Empty:
            break
        if finding is None:
            open_.discard(name)
        else:
            found[name].append(finding)
    for name in open_:
        found[name].append(failure(name, "unfinished", name=name, seconds=f"{patience_s:g}"))
    return [finding for findings in found.values() for finding in findings]


def settings_unreadable(error: ConfigurationError) -> Finding:
    """The one finding where not even the settings can be read."""
    return failure("settings", "settings_unreadable", fault=error.text)


def _run_check(
    name: str, check: Check, settings: Settings, answers: "queue.SimpleQueue[tuple[str, Finding | None]]"
) -> None:
    try:
        for finding in check(settings):
            answers.put((name, finding))
    except WaterError as error:
        answers.put((name, failure(name, "error", name=name, error=error.text)))
    except Exception as error:  # its text may quote an address with a secret in it
        answers.put((name, failure(name, "error", name=name, error=type(error).__name__)))
    finally:
        answers.put((name, None))
