"""A real Prometheus for the tests that starts with given samples and scrapes nothing."""

import re
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import httpx

from riverchief.brokers.local import free_port

PATIENCE_S = 60
INSTANCE = "riverchief:8080"


@contextmanager
def serving(scrapes: Sequence[tuple[int, str]], folder: Path) -> Iterator[str]:
    """The address of a server that holds these expositions (ms, text; oldest first) as scraped from one instance."""
    lines = [_stamped(line, at_ms) for at_ms, text in scrapes for line in text.splitlines() if _is_sample(line)]
    source = folder / "samples.txt"
    source.write_text("\n".join([*lines, "# EOF"]) + "\n")
    data, config = folder / "data", folder / "prometheus.yml"
    command = ["promtool", "tsdb", "create-blocks-from", "openmetrics", str(source), str(data)]
    subprocess.run(command, check=True, capture_output=True)
    config.write_text("scrape_configs: []\n")
    address = f"127.0.0.1:{free_port()}"
    with (folder / "server.log").open("wb") as log:
        process = subprocess.Popen(
            ["prometheus", f"--config.file={config}", f"--storage.tsdb.path={data}", f"--web.listen-address={address}"],
            stdout=log,
            stderr=log,
        )
    try:
        _wait_until_ready(process, f"http://{address}", folder / "server.log")
        yield f"http://{address}"
    finally:
        process.terminate()
        process.wait(PATIENCE_S)


def _is_sample(line: str) -> bool:
    return bool(line) and not line.startswith("#")


def _stamped(line: str, at_ms: int) -> str:
    """A sample with its instance and time, as OpenMetrics writes it."""
    name, labels, value = re.fullmatch(r"(\w+)(?:\{(.*)\})? (\S+)", line).groups()  # type: ignore[union-attr]
    labels = ",".join(part for part in (f'instance="{INSTANCE}"', (labels or "").rstrip(",")) if part)
    return f"{name}{{{labels}}} {value} {at_ms / 1000:.3f}"


def _wait_until_ready(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    until = time.monotonic() + PATIENCE_S
    while True:
        try:
            if httpx.get(f"{url}/-/ready", trust_env=False, timeout=60).is_success:
                return
        except httpx.HTTPError:
            pass
        if process.poll() is not None or time.monotonic() > until:
            raise AssertionError(f"Prometheus did not start: {log.read_text()[-2000:]}")
        time.sleep(0.05)
