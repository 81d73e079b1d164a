"""Three real Kafka brokers (KRaft, each broker and controller) on loopback, from the jars of a folder, on plain Java.

``KAFKA_LIBS`` names the folder: ``mvn dependency:copy-dependencies`` of org.apache.kafka:kafka_2.13 fills it.
"""

import os
import shutil
import signal
import socket
import subprocess
from pathlib import Path

from riverchief.brokers.local import free_port
from tests.rig import eventually

LIBS = Path(os.environ.get("KAFKA_LIBS", "build/kafka"))
CLUSTER_ID = "cml2ZXJjaGllZi10ZXN0cw"
JAVA = ["java", "-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp", f"{LIBS}/*"]


def missing() -> str | None:
    """Why there can be no Kafka here; None where there can."""
    if shutil.which("java") is None:
        return "no Java here"
    return None if LIBS.is_dir() and any(LIBS.glob("kafka_*.jar")) else f"no Kafka in {LIBS} (make kafka brings it)"


class KafkaCluster:
    """The brokers, each with a folder of its own."""

    kind = "kafka"

    def __init__(self, folder: Path, nodes: int = 3) -> None:
        self.folder = folder
        self.stores = [folder / f"broker{node}" for node in range(nodes)]
        self.ports = [free_port() for _ in range(nodes)]
        self._controllers = [free_port() for _ in range(nodes)]
        self.processes: list[subprocess.Popen[bytes] | None] = [None] * nodes

    @property
    def urls(self) -> tuple[str, ...]:
        return tuple(f"127.0.0.1:{port}" for port in self.ports)

    def start(self) -> None:
        self._format(*range(len(self.ports)))
        for node in range(len(self.ports)):
            self.begin(node)
        for node in range(len(self.ports)):
            self.healthy(node)

    def _format(self, *nodes: int) -> None:
        command = [*JAVA, "kafka.tools.StorageTool", "format", "-t", CLUSTER_ID, "-c"]
        with (self.folder / "format.log").open("ab") as log:
            configs = [str(self._configured(node)) for node in nodes]
            formatting = [subprocess.Popen([*command, config], stdout=log, stderr=log) for config in configs]
        assert [one.wait(120) for one in formatting] == [0] * len(configs), (self.folder / "format.log").read_text()

    def _configured(self, node: int) -> Path:
        voters = ",".join(f"{i}@127.0.0.1:{port}" for i, port in enumerate(self._controllers))
        config = self.folder / f"broker{node}.properties"
        said = {
            "node.id": node,
            "process.roles": "broker,controller",
            "controller.quorum.voters": voters,
            "controller.listener.names": "CONTROLLER",
            "listeners": f"PLAINTEXT://127.0.0.1:{self.ports[node]},CONTROLLER://127.0.0.1:{self._controllers[node]}",
            "advertised.listeners": f"PLAINTEXT://127.0.0.1:{self.ports[node]}",
            "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
            "log.dirs": self.stores[node],
            "auto.create.topics.enable": "false",
            "offsets.topic.num.partitions": 1,
            "broker.session.timeout.ms": 4000,
            "broker.heartbeat.interval.ms": 500,
        }
        config.write_text("".join(f"{name}={value}\n" for name, value in said.items()))
        return config

    def begin(self, node: int) -> None:
        with (self.folder / f"broker{node}.log").open("ab") as log:
            command = [*JAVA, "kafka.Kafka", str(self.folder / f"broker{node}.properties")]
            self.processes[node] = subprocess.Popen(command, stdout=log, stderr=log)

    def healthy(self, node: int) -> None:
        def answers() -> bool:
            try:
                socket.create_connection(("127.0.0.1", self.ports[node]), 1).close()
            except OSError:
                return False
            return True

        eventually(f"broker {node} answers", answers, 120, 0.3)

    def kill(self, node: int, how: signal.Signals = signal.SIGKILL) -> None:
        process = self.processes[node]
        if process is not None and process.poll() is None:
            process.send_signal(how)
            process.wait(30)

    def wipe(self, node: int) -> None:
        """An empty disk for a node that is stopped."""
        shutil.rmtree(self.stores[node])
        self._format(node)

    def leader(self, partition: int) -> int:
        """The node that leads a partition; -1 where none does."""
        from confluent_kafka.admin import AdminClient

        topics = AdminClient({"bootstrap.servers": ",".join(self.urls)}).list_topics(timeout=10).topics
        return int(topics["riverchief"].partitions[partition].leader)

    def close(self) -> None:
        for node in range(len(self.ports)):
            self.kill(node)
