"""The bridge of a cluster: the sources of an ingest, whose messages go into the streams."""

from contextlib import suppress

from infra.errors import StorageUnavailable
from ingest.cluster.bridge import Bridge, BridgeName
from riverchief import __version__
from riverchief.cluster import open_transport, process_name
from riverchief.resources import Resources
from riverchief.service import Service
from riverchief.services.ingest_services import Ingest


class BridgeService:
    """The streams are left after the last source has ended."""

    def __init__(self, resources: Resources) -> None:
        self._transport = open_transport(resources.settings)
        self._bridge = Bridge(
            resources.database,
            self._transport,
            resources.catalogue,
            resources.files.mappings,
            BridgeName(process_name(), __version__, resources.settings.cluster.partitions),
        )
        self.ingest = Ingest(resources, self._bridge)

    def service(self) -> Service:
        return Service(stop=self._stop)

    def _stop(self) -> None:
        with suppress(StorageUnavailable):  # it is forgotten after an hour
            self._bridge.stop()
        self._transport.close()
