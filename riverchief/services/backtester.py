"""Run requested backtests in the background: one at a time, each in a process of its own."""

import math
import multiprocessing
import os
import time
from multiprocessing.process import BaseProcess

import structlog

from infra import clock
from infra.database import Database
from infra.errors import StorageUnavailable, WaterError
from infra.periodic import PeriodicWorker
from ingest.analysis import backtest, backtest_requests
from ingest.state import rule_publications
from ingest.storage import maintenance as maintenance_store
from ingest.storage import registry as registry_store
from riverchief import files
from riverchief.settings import Settings
from riverchief.stores import open_stores
from sensors.parameters import catalogue

log = structlog.get_logger(__name__)

EVERY_S = 1.0
NICENESS = 10
PROGRESS_PERIOD_S = 0.5
SHORT_LIST_INCIDENTS = 1000
"""Incidents of each list in a result."""


class Backtester(PeriodicWorker):
    """Runs the waiting backtests one after the other, without a time limit."""

    longest_round_s = math.inf

    def __init__(self, database: Database, settings: Settings) -> None:
        super().__init__("backtests")
        self._database = database
        self._settings = settings
        self._begun = False

    def next_round(self) -> float:
        try:
            if self._begun:
                with self._database.read() as connection:
                    if not backtest_requests.has_waiting(connection):
                        return EVERY_S
            with self._database.write() as connection:
                if not self._begun:
                    backtest_requests.requeue_running(connection)
                request = backtest_requests.claim_next(connection)
            self._begun = True
        except StorageUnavailable:
            return EVERY_S
        if request is None:
            return EVERY_S
        child = multiprocessing.get_context("spawn").Process(
            target=run_backtest, args=(self._settings, request.id), daemon=True
        )
        child.start()
        if self._watch(child) and child.exitcode:
            self._failed(request.id, f"the process that ran it ended with code {child.exitcode}")
        return 0

    def _watch(self, child: BaseProcess) -> bool:
        """Wait for it; false when we are to stop, which ends it: it is done again after the next start."""
        while child.is_alive():
            child.join(EVERY_S / 4)
            if self._stopping.is_set():
                child.terminate()
                child.join(5)
                self._begun = False
                return False
        return True

    def _failed(self, number: int, error: str) -> None:
        try:
            with self._database.write() as connection:
                backtest_requests.fail(connection, number, error, clock.now_ms())
        except StorageUnavailable:
            log.warning("a failed backtest could not be written down", number=number)


def run_backtest(settings: Settings, number: int) -> None:
    """Run one backtest and store the result or the error."""
    os.nice(NICENESS)
    database = Database(settings.database_url)
    try:
        result = _result(settings, database, number)
        with database.write() as connection:
            backtest_requests.finish(connection, number, result, clock.now_ms())
    except WaterError as error:
        with database.write() as connection:
            backtest_requests.fail(connection, number, str(error), clock.now_ms())
    except Exception as error:
        with database.write() as connection:
            backtest_requests.fail(connection, number, f"{type(error).__name__}: {error}", clock.now_ms())
        raise
    finally:
        database.close()


def _result(settings: Settings, database: Database, number: int) -> dict[str, object]:
    parameters = catalogue()
    with database.read() as connection:
        request = backtest_requests.get(connection, number).request
        registry = registry_store.load(connection, parameters)
        maintenance = maintenance_store.load(connection)
    tried_rules = files.parse_rules(request["rules"], parameters)
    in_force_rules = rule_publications.load(database, files.read_rules(settings.site.rules, parameters), parameters)
    since_ms, until_ms = request["since_ms"], request["until_ms"]
    stores = open_stores(settings, database, parameters)
    stored = backtest.load_input(
        registry, stores.readings, since_ms, until_ms, maintenance=maintenance, stations=request["stations"]
    )
    progress = _ProgressWriter(database, number)
    tried, in_force = backtest.compare_rule_sets(
        tried_rules, in_force_rules, stored, parameters, since_ms, until_ms, on_progress=progress
    )
    return backtest.as_json(tried, in_force, most=SHORT_LIST_INCIDENTS)


class _ProgressWriter:
    """Writes progress down, not too often."""

    def __init__(self, database: Database, number: int) -> None:
        self._database, self._number, self._last = database, number, 0.0

    def __call__(self, share: float) -> None:
        if time.monotonic() - self._last > PROGRESS_PERIOD_S:
            self._last = time.monotonic()
            with self._database.write() as connection:
                backtest_requests.report_progress(connection, self._number, share)
