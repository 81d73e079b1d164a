"""The dead-man signal: given while everything works, and only then; silent within a bound when something does not."""

import http.server
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from infra.errors import ConfigurationError
from riverchief import serve, settings
from riverchief.brokers.local import free_port
from riverchief.heartbeat import Heartbeat
from riverchief.services import ingest_services
from sensors.reading import Message
from sensors.stations import Station
from tests.rig import Running, eventually
from tests.says import says

SECRET = "f3a1-not-for-logs"


class Watcher:
    """Who listens outside: counts the calls, answers as told."""

    def __init__(self) -> None:
        self.calls = 0
        self.answer = 200
        watcher = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                watcher.calls += self.path == f"/ping/{SECRET}"
                self.send_response(watcher.answer)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self._server.server_port}/ping/{SECRET}"

    def more(self) -> bool:
        """Whether a call comes from now on."""
        before = self.calls
        return bool(eventually("a further call", lambda: self.calls > before))

    def silent(self, for_s: float) -> bool:
        """Whether no call comes for so long."""
        before = self.calls
        threading.Event().wait(for_s)
        return self.calls == before

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def watcher() -> Iterator[Watcher]:
    one = Watcher()
    yield one
    one.close()


@pytest.fixture
def beating() -> Iterator[Callable[..., Heartbeat]]:
    made: list[Heartbeat] = []

    def make(url: str, ailing: Callable[[], list[str]] = list, **more: float) -> Heartbeat:
        made.append(Heartbeat(url, ailing, every_s=0.1, clock_ms=lambda: 7, again_s=(0.01,), **more))
        made[-1].start()
        return made[-1]

    yield make
    for one in made:
        one.stop()


def test_it_calls_while_all_is_well_and_is_silent_while_a_part_is_not(
    watcher: Watcher, beating: Callable[..., Heartbeat]
) -> None:
    ailing: list[str] = []
    heart = beating(watcher.url, lambda: ailing)
    assert watcher.more()
    eventually("it knows", lambda: heart.ok)
    assert heart.last_ok_ms == 7
    ailing.append("mqtt")
    eventually("it knows why", lambda: heart.last_error == "not well: mqtt")
    assert not heart.ok
    assert watcher.silent(0.5)
    ailing.clear()
    assert watcher.more()
    eventually("it knows", lambda: heart.ok)


def test_parts_that_cannot_even_be_asked_are_not_well(watcher: Watcher, beating: Callable[..., Heartbeat]) -> None:
    def broken() -> list[str]:
        raise RuntimeError(SECRET)

    heart = beating(watcher.url, broken)
    eventually("it knows", lambda: heart.last_error == "the parts cannot be asked: RuntimeError")
    assert watcher.calls == 0


def test_a_listener_that_fails_is_tried_again_and_the_address_is_never_told(
    watcher: Watcher, beating: Callable[..., Heartbeat]
) -> None:
    with capture_logs() as logs:
        watcher.answer = 503
        heart = beating(watcher.url)
        eventually("it knows", lambda: heart.last_error == "127.0.0.1 answers HTTP 503")
        eventually("tried again at once", lambda: watcher.calls >= 4)
        watcher.answer = 200
        eventually("well again", lambda: heart.ok)
        gone = beating(f"http://127.0.0.1:{free_port()}/ping/{SECRET}")
        eventually("nobody there", lambda: gone.last_error == "127.0.0.1 cannot be reached: ConnectError")
    assert [line["event"] for line in logs].count("no heartbeat is given") == 2, "once for each change, not each beat"
    assert SECRET not in str(logs)
    assert SECRET not in repr(heart) + heart.last_error + gone.last_error


@pytest.mark.parametrize(
    "url", ["", "watch.example/ping", "ftp://watch.example/ping", "http:///ping", "http://w:x/ping"]
)
def test_an_address_that_cannot_be_called_is_refused_without_being_quoted(url: str) -> None:
    with pytest.raises(ConfigurationError, match=says("settings.heartbeat")) as refused:
        Heartbeat(url, list, every_s=60, clock_ms=lambda: 0)
    assert "ping" not in str(refused.value)


@pytest.fixture
def beating_site(
    running: Callable[[str], Running], watcher: Watcher, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[Running, serve.System]]:
    """A whole site in this process, so that its patience can be a test's: beats of 0.2 s, watched parts of 5 s."""
    monkeypatch.setattr(ingest_services, "SILENT_AFTER_S", 5)
    site = running("mosquitto")
    site.more = f"[watch]\nheartbeat_url = '{watcher.url}'\n"
    site.register(Station("s1", "站一", "station one", 113.1, 23.0))
    loaded = settings.load(site.settings)
    system = serve.System(
        loaded.model_copy(update={"watch": loaded.watch.model_copy(update={"heartbeat_s": 0.2})}), serve.ALL_ROLES
    )
    system.start()
    yield site, system
    system.stop()


@pytest.mark.broker
def test_a_site_is_silent_while_its_broker_is_away_and_calls_again_when_it_is_back(
    beating_site: tuple[Running, serve.System], watcher: Watcher
) -> None:
    site, system = beating_site
    heart = system.heartbeat
    assert heart is not None
    assert watcher.more()
    site.broker.stop()
    eventually("it knows", lambda: heart.last_error == "not well: mqtt")
    assert watcher.silent(1)
    site.broker.start()
    assert watcher.more()


@pytest.mark.broker
def test_a_site_whose_ingest_thread_is_stuck_is_silent(
    beating_site: tuple[Running, serve.System], watcher: Watcher
) -> None:
    site, system = beating_site
    heart, ingest = system.heartbeat, system.ingest
    assert heart is not None
    assert ingest is not None
    assert watcher.more()
    with site.database.write():  # nobody else can write: the ingest thread hangs in its batch
        ingest.intake.submit(Message("s1", b'{"readings": [{"at": "2026-05-12T10:30:00Z", "values": {"ph": 7.1}}]}', 7))
        eventually("it is silent within the bound", lambda: "ingest" in heart.last_error)
        assert watcher.silent(1)
    assert watcher.more()


def test_settings_show_no_heartbeat_address(tmp_path: Path) -> None:
    file = tmp_path / "settings.toml"
    file.write_text(f"[watch]\nheartbeat_url = 'https://watch.example/ping/{SECRET}'\n")
    assert SECRET not in repr(settings.load(file))
