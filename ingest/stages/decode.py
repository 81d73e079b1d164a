"""Messages to readings: replays from quarantine, the stations that messages are of, and their decoded content."""

from collections.abc import Sequence

from ingest.replays import take_replays
from ingest.site_state import SiteState
from ingest.work import Work
from sensors.reading import Message
from sensors.wire import mapping
from sensors.wire.decode import decode
from sensors.wire.hj212 import readings as hj212
from sensors.wire.sl651 import readings as sl651


class Decode:
    """Reads ``messages``; writes ``messages`` (addressed), ``replayed`` and ``decoded``."""

    name = "decode"

    def run(self, work: Work) -> None:
        site = work.site
        messages, work.replayed = take_replays(site, work.messages)
        work.messages = _addressed(site, messages)
        work.decoded = decode(work.messages, site.catalogue, site.loggers, site.mappings, site.gauges)


def _addressed(site: SiteState, messages: Sequence[Message]) -> Sequence[Message]:
    """The messages with the stations they are of; a station registered a moment ago is adopted."""
    messages = mapping.addressed(messages, site.mappings)
    found = _by_device(site, messages)
    index = site.history.registry.index
    if not all(m.station in index for m in found) and site.follow_registry():
        found = _by_device(site, messages)
    return found


def _by_device(site: SiteState, messages: Sequence[Message]) -> Sequence[Message]:
    """Frames know only their device: the stations of the registered ones."""
    return sl651.addressed(hj212.addressed(messages, site.loggers, site.catalogue), site.gauges)
