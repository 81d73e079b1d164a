"""The streams of a cluster by the settings, and the names of its processes."""

import os
from socket import gethostname
from uuid import uuid4

from ingest.cluster.engines import EngineSettings, connect
from ingest.cluster.transport import Transport
from riverchief.settings import Settings, secret


def open_transport(settings: Settings) -> Transport:
    """The engine of ``[cluster]``; raises ConfigurationError where its library is missing. Connects when first used."""
    c = settings.cluster
    return connect(
        EngineSettings(
            servers=c.servers or (),
            kind=c.engine,
            user=c.user,
            password=secret(c.password, c.password_file),
            ca_file=str(c.ca_file) if c.ca_file else None,
            replicas=c.replicas,
            stream_bytes=c.stream_mb * 2**20,
            prefix=c.prefix,
        )
    )


def process_name() -> str:
    """A unique name for this process in the cluster, with its host."""
    return f"{gethostname()[:60]}:{os.getpid()}:{uuid4().hex[:6]}"
