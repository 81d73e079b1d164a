"""The engines a cluster can run on, each behind :class:`ingest.cluster.transport.Transport`; loaded when first used."""

from dataclasses import dataclass, field

from infra.errors import ConfigurationError
from infra.texts import say
from ingest.cluster.transport import Transport


@dataclass(frozen=True, slots=True)
class EngineSettings:
    """Address, login and size of the streams."""

    servers: tuple[str, ...]
    kind: str = "nats"
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    ca_file: str | None = None
    replicas: int = 3
    stream_bytes: int = 1024 * 2**20
    prefix: str = "riverchief"


_LIBRARIES = {"nats": "nats-py", "kafka": "confluent-kafka"}


def connect(settings: EngineSettings) -> Transport:
    """The engine of the settings; nothing is connected yet. Raises ConfigurationError where its library is missing."""
    library = _LIBRARIES[settings.kind]
    try:
        if settings.kind == "kafka":
            from ingest.cluster.engines.kafka import Kafka

            return Kafka(settings)
        from ingest.cluster.engines.jetstream import JetStream

        return JetStream(settings)
    except ModuleNotFoundError as error:
        raise ConfigurationError(say("cluster.no_library", kind=settings.kind, library=library)) from error
