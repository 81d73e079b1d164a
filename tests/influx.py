"""A real time-series server for the tests: InfluxDB 1.6, one for the whole run."""

import shutil
import subprocess
import tempfile
import time
from functools import lru_cache
from itertools import count
from pathlib import Path

import httpx

from ingest.storage.timeseries import ServerKind, ServerSettings, TimeSeriesServer
from riverchief.brokers.local import free_port

PATIENCE_S = 60

INFLUXD = """
reporting-enabled = false
bind-address = "127.0.0.1:{rpc}"
[meta]
dir = "{folder}/meta"
[data]
dir = "{folder}/data"
wal-dir = "{folder}/wal"
query-log-enabled = false
cache-max-memory-size = 134217728
max-concurrent-compactions = 1
[monitor]
store-enabled = false
[http]
bind-address = "127.0.0.1:{http}"
log-enabled = false
auth-enabled = {auth}
[continuous_queries]
log-enabled = false
run-interval = "1s"
[retention]
check-interval = "1s"
"""


class RealServer:
    """A server process on a loopback port with its data in a folder of its own."""

    def __init__(self, kind: ServerKind, *, asks_for_password: bool = False) -> None:
        self.kind = kind
        self._asks_for_password = asks_for_password
        self.folder = Path(tempfile.mkdtemp(prefix=f"riverchief-{kind}-"))
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._process: subprocess.Popen[bytes] | None = None
        self._numbers = count(1)

    def start(self) -> None:
        with (self.folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(self._command(), stdout=log, stderr=log)
        until = time.monotonic() + PATIENCE_S
        while True:
            try:
                if httpx.get(f"{self.url}/ping", trust_env=False, timeout=60).status_code < 300:
                    return
            except httpx.HTTPError:
                pass
            if self._process.poll() is not None or time.monotonic() > until:
                raise AssertionError(f"{self.kind} did not start: {(self.folder / 'server.log').read_text()[-2000:]}")
            time.sleep(0.05)

    def _command(self) -> list[str]:
        config = self.folder / "influxdb.conf"
        config.write_text(
            INFLUXD.format(
                folder=self.folder, http=self.port, rpc=free_port(), auth=str(self._asks_for_password).lower()
            )
        )
        return ["influxd", "-config", str(config)]

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def kill(self) -> None:
        """SIGKILL to the process this object started; what it had accepted is on disk or lost."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def stop(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            self._process.wait(PATIENCE_S)
        shutil.rmtree(self.folder, ignore_errors=True)

    def fresh(self, url: str | None = None, **settings: object) -> TimeSeriesServer:
        """A client of an empty database of its own; ``url`` where something stands in between."""
        name = f"water_{next(self._numbers)}"
        self.query(f'CREATE DATABASE "{name}"')
        return self.client(name, url, **settings)

    def client(self, bucket: str, url: str | None = None, **settings: object) -> TimeSeriesServer:
        """A client of a database that is there, or is not."""
        return TimeSeriesServer(ServerSettings(url or self.url, self.kind, bucket=bucket, **settings))  # type: ignore[arg-type]

    def query(self, statement: str) -> None:
        """A statement of InfluxQL as an administrator."""
        httpx.post(f"{self.url}/query", data={"q": statement}, trust_env=False, timeout=60).raise_for_status()


@lru_cache(maxsize=2)
def real_server(kind: ServerKind) -> RealServer:
    """The server of this run, started when first asked for; ``stop_servers`` ends it."""
    server = RealServer(kind)
    _started.append(server)
    server.start()
    return server


_started: list[RealServer] = []


def stop_servers() -> None:
    while _started:
        _started.pop().stop()
    real_server.cache_clear()
