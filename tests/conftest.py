"""What the tests share: real servers or a word about their absence, and running sites."""

import gc
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import structlog
from hypothesis import settings

from infra import database, outgoing
from riverchief.brokers import local
from tests import databases, disk, influx, postgres
from tests.rig import Running

NO_POWER_LOSS = "power loss not tested"
ON_CI = os.environ.get("CI") == "true"

# how long an example takes says nothing on a busy machine; CI repeats itself, other runs look further each time
settings.register_profile("riverchief", deadline=None, derandomize=ON_CI, max_examples=50)
settings.load_profile("riverchief")


def _log_plainly() -> None:
    """Tracebacks as the product writes them; those with the values of all names take seconds each."""
    structlog.reset_defaults()
    plain = structlog.dev.ConsoleRenderer(colors=False, exception_formatter=structlog.dev.plain_traceback)
    structlog.configure(processors=[structlog.processors.add_log_level, plain])


_log_plainly()
databases.compile_once()

gc.disable()  # until all tests are collected: a fifth of the time that takes
os.environ.pop("SSL_CERT_FILE", None)
os.environ["SSL_CERT_DIR"] = str(Path(__file__).parent)
"""No public authorities, here and in the processes that tests start: all servers are on loopback, and each request of
httpx without a client of its own would read their list first, which takes a hundred times as long as the request."""

if worker := os.environ.get("PYTEST_XDIST_WORKER"):  # a server starts a while after it got its port
    local.PORTS = local.PORTS[int(worker.removeprefix("gw")) :: int(os.environ["PYTEST_XDIST_WORKER_COUNT"])]

outgoing.allow(("127.0.0.0/8", "::1"))
"""All others are on loopback; what the gate refuses is tested in `tests/unit/test_outgoing.py`."""

database.SYNCHRONOUS = "OFF"
"""In the process of the tests; what a power cut does is not tested, a kill -9 does not care."""

SLOWEST_FIRST = ("faults", "system", "fuzz", "contract", "unit")
"""Folders of tests that wait for processes first, so that none of them is left over for the end of a run."""
LONGEST = (
    "test_random_faults.py",
    "test_kill.py",
    "test_demo.py",
    "test_large_site.py",
    "test_stack.py",
    "test_pages_axe.py",
    "test_tasks.py",
    "test_outbox.py",
    "test_pipeline.py",
    "test_api.py",
    "test_dashboards.py",
    "test_series_stream.py",
    "test_reading_store.py",
    "test_scenarios.py",
    "test_rights.py",
    "test_channels.py",
    "test_ledger.py",
    "test_water.py",
    "test_faults.py",
)
"""Files that take longest in their folder: one process works on a file, so none of them may be begun last."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave out, and say so, what cannot run here; on CI a missing server is a failure instead.

    What no package can bring, a disk whose power can be cut, is left out on CI as well, and the last line says so.
    """
    items.sort(key=_place)
    lacking = {
        "broker": shutil.which("mosquitto") is None and not Path("/usr/sbin/mosquitto").exists(),
        "browser": not (shutil.which("chromium-headless-shell") or shutil.which("chromium")),
        "influx": shutil.which("influxd") is None,
        "prometheus": None in (shutil.which("prometheus"), shutil.which("promtool")),
        "postgres": postgres.programs() is None,
    }
    no_disk = disk.impossible() or (None if ON_CI else disk.not_installed())
    for item in items:
        if no_disk and item.get_closest_marker("power_loss"):
            item.add_marker(pytest.mark.skip(reason=no_disk))
        for marker, missing in lacking.items():
            if missing and item.get_closest_marker(marker) and not ON_CI:
                item.add_marker(pytest.mark.skip(reason=f"no {marker} here (tests/servers.sh installs it)"))


def pytest_report_teststatus(report: pytest.TestReport) -> tuple[str, str, tuple[str, dict[str, bool]]] | None:
    """Count tests of a power loss that were left out by themselves, so that the last line of a run names them."""
    if report.skipped and "power_loss" in getattr(report, "keywords", ()):  # a module skipped whole has none
        return NO_POWER_LOSS, "P", ("POWER LOSS NOT TESTED", {"red": True})
    return None


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say why no power loss was tested."""
    left_out = terminalreporter.stats.get(NO_POWER_LOSS, [])
    reasons = sorted({str(report.longrepr[2]).removeprefix("Skipped: ") for report in left_out})
    if reasons:
        terminalreporter.write_sep("!", f"{NO_POWER_LOSS}: {'; '.join(reasons)}", red=True)


def pytest_collection_finish() -> None:
    """What is loaded by now stays: the collector need not look at it again and again."""
    gc.collect()
    gc.freeze()
    gc.enable()


def _place(item: pytest.Item) -> tuple[int, int]:
    """Where a test stands: the folders that wait longest first, and in each the files that take longest."""
    where = item.path.relative_to(Path(__file__).parent)
    longest = LONGEST.index(where.name) if where.name in LONGEST else len(LONGEST)
    return SLOWEST_FIRST.index(where.parts[0]), longest


def pytest_sessionfinish() -> None:
    """End the time-series servers of this run."""
    influx.stop_servers()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run what is marked ``both_databases`` on each."""
    if "dialect" in metafunc.fixturenames and metafunc.definition.get_closest_marker("both_databases"):
        metafunc.parametrize("dialect", postgres.DIALECTS, indirect=True)


@pytest.fixture(scope="module")
def dialect(request: pytest.FixtureRequest) -> str:
    """Which database a test meets: SQLite, or each of the two where the test or its module is marked."""
    return str(getattr(request, "param", "sqlite"))


@pytest.fixture
def url(dialect: str, tmp_path: Path) -> str:
    """The address of a test's own database without rows; see `databases.with_tables`."""
    return postgres.fresh(dialect, tmp_path)


@pytest.fixture(autouse=True)
def _own_logging() -> Iterator[None]:
    """Commands set up logging for their process; this one is everybody's."""
    yield
    _log_plainly()


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Callable[..., Running]]:
    """Makes running sites; ends whatever they started."""
    made: list[Running] = []

    def make(kind: str, url: str = "") -> Running:
        made.append(Running(tmp_path / f"site-{len(made)}", kind, url))
        return made[-1]

    yield make
    for one in made:
        one.close()
