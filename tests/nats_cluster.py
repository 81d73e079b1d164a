"""Three real NATS servers on loopback, as docker-compose.yml runs them: every write is synced."""

import shutil
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from riverchief.brokers.local import free_port
from tests.rig import eventually

SERVER = Path(sys.executable).with_name("nats-server")


class NatsCluster:
    """The servers, each with a folder of its own."""

    kind = "nats"

    def __init__(self, folder: Path, nodes: int = 3) -> None:
        self.folder = folder
        self.stores = [folder / f"node{node}" for node in range(nodes)]
        self.ports = [free_port() for _ in range(nodes)]
        self._routes = [free_port() for _ in range(nodes)]
        self._monitors = [free_port() for _ in range(nodes)]
        self.processes: list[subprocess.Popen[bytes] | None] = [None] * nodes

    @property
    def urls(self) -> tuple[str, ...]:
        return tuple(f"nats://127.0.0.1:{port}" for port in self.ports)

    def start(self) -> None:
        for node in range(len(self.ports)):
            self.begin(node)
        for node in range(len(self.ports)):
            self.healthy(node)

    def begin(self, node: int) -> None:
        routes = ", ".join(f'"nats://127.0.0.1:{port}"' for port in self._routes)
        config = self.folder / f"node{node}.conf"
        config.write_text(
            f'server_name: node{node}\nlisten: "127.0.0.1:{self.ports[node]}"\n'
            f'http: "127.0.0.1:{self._monitors[node]}"\n'
            f'jetstream {{ store_dir: "{self.stores[node]}", sync_interval: always }}\n'
            f'cluster {{ name: rc, listen: "127.0.0.1:{self._routes[node]}", routes: [{routes}] }}\n'
        )
        with (self.folder / f"node{node}.log").open("ab") as log:
            self.processes[node] = subprocess.Popen([SERVER, "--config", config], stdout=log, stderr=log)

    def healthy(self, node: int) -> None:
        def well() -> bool:
            if (process := self.processes[node]) is not None and process.poll() is not None:
                pytest.fail(f"node {node} ended: {(self.folder / f'node{node}.log').read_text()[-500:]}")
            try:
                return httpx.get(f"http://127.0.0.1:{self._monitors[node]}/healthz", timeout=5).status_code == 200
            except httpx.TransportError:
                return False

        eventually(f"node {node} is healthy", well, 60)

    def kill(self, node: int, how: signal.Signals = signal.SIGKILL) -> None:
        process = self.processes[node]
        if process is not None and process.poll() is None:
            process.send_signal(how)
            process.wait(30)

    def wipe(self, node: int) -> None:
        """An empty disk for a node that is stopped."""
        shutil.rmtree(self.stores[node])

    def leader(self, partition: int) -> int:
        """The node that leads a partition's stream; -1 where none does."""
        for port in self._monitors:
            try:
                found = httpx.get(f"http://127.0.0.1:{port}/jsz?streams=true", timeout=5).json()
            except httpx.TransportError:
                continue
            for account in found.get("account_details", []):
                for one in account.get("stream_detail", []):
                    if one["name"] == f"riverchief-{partition}" and (name := one.get("cluster", {}).get("leader")):
                        return int(name.removeprefix("node"))
        return -1

    def close(self) -> None:
        for node in range(len(self.ports)):
            self.kill(node)
