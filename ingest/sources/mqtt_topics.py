"""Which MQTT topics are subscribed, and how a message on a topic becomes a :class:`~sensors.reading.Message`.

To add a payload: a new kind of our own topics ``rivers/v1/{station}/{kind}`` is added to ``KINDS`` of
:mod:`sensors.wire.telemetry` and decoded there; the payload of another sender needs no code but a mapping
(``config/mappings.toml``, read by :mod:`sensors.wire.mapping`). Bytes are decoded by the pipeline, never here. Pure.
"""

from collections.abc import Sequence

from sensors.reading import Message
from sensors.wire import mapping
from sensors.wire.telemetry import KINDS, topic

_PREFIX = topic("+").split("/")[:2]


def subscriptions(mapped: Sequence[str]) -> list[str]:
    """The topic filters to subscribe to; ``mapped`` are those of the mappings."""
    return [*(topic("+", kind) for kind in KINDS), *mapped]


def message_of(topic_name: str, payload: bytes, received_at_ms: int) -> Message:
    """The message that arrived on a topic.

    Our topics name the station and the kind; on any other the mapping finds the station.
    """
    levels = topic_name.split("/")
    if len(levels) == 4 and levels[:2] == _PREFIX and levels[3] in KINDS:
        return Message(levels[2], payload, received_at_ms, "mqtt", topic_name, kind=levels[3])
    return Message("", payload, received_at_ms, mapping.SOURCE, topic_name)
