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
    stream_bytes: int = 4096 * 2**20
    prefix: str = "riverchief"


def connect(settings: EngineSettings) -> Transport:
    """The engine of the settings; nothing is connected yet. Raises ConfigurationError where its library is missing."""
    try:
        from ingest.cluster.engines.jetstream import JetStream

        return JetStream(settings)
    except ModuleNotFoundError as error:
        raise ConfigurationError(say("cluster.no_library", kind=settings.kind, library="nats-py")) from error
