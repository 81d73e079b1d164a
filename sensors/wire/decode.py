"""Decode a micro-batch of messages, each by the format of its source."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from sensors.parameters import Catalogue
from sensors.reading import Batch, Message
from sensors.wire import mapping, telemetry
from sensors.wire.hj212 import readings as hj212
from sensors.wire.hj212.readings import Logger
from sensors.wire.mapping import Mappings
from sensors.wire.sl651 import readings as sl651
from sensors.wire.sl651.readings import Gauge
from sensors.wire.telemetry import Decoded, Header

_FOREIGN = frozenset({hj212.SOURCE, sl651.SOURCE, mapping.SOURCE})
_NO_GAUGES: Mapping[str, Gauge] = {}


def decode(
    messages: Sequence[Message],
    catalogue: Catalogue,
    loggers: Mapping[str, Logger],
    mappings: Mappings = mapping.NONE,
    gauges: Mapping[str, Gauge] = _NO_GAUGES,
) -> Decoded:
    """Read messages; never raises for what is in them.

    ``loggers`` by MN say whose the HJ 212 frames are, ``gauges`` by address whose those of SL 651, ``mappings`` how to
    read what came on other people's topics.
    """
    if all(message.source not in _FOREIGN for message in messages):
        return telemetry.decode(messages, catalogue)
    ours = [i for i, message in enumerate(messages) if message.source not in _FOREIGN]
    framed = [i for i, message in enumerate(messages) if message.source == hj212.SOURCE]
    gauged = [i for i, message in enumerate(messages) if message.source == sl651.SOURCE]
    mapped = [i for i, message in enumerate(messages) if message.source == mapping.SOURCE]
    return _joined(
        len(messages),
        (ours, telemetry.decode([messages[i] for i in ours], catalogue)),
        (framed, hj212.decode([messages[i] for i in framed], catalogue, loggers)),
        (gauged, sl651.decode([messages[i] for i in gauged], catalogue, gauges)),
        (mapped, mapping.decode([messages[i] for i in mapped], catalogue, mappings)),
    )


def _joined(messages: int, *pieces: tuple[list[int], Decoded]) -> Decoded:
    """Join decoded pieces; each comes with the places of its messages in the whole."""
    headers: list[Header | None] = [None] * messages
    unknown: dict[int, str] = {}
    row = 0
    for places, piece in pieces:
        for place, header in zip(places, piece.headers, strict=True):
            headers[place] = header
        unknown |= {row + r: key for r, key in piece.unknown.items()}
        row += len(piece.batch)
    batches = [piece.batch for _, piece in pieces]
    batch = Batch(
        np.concatenate([b.station for b in batches]),
        np.concatenate([b.parameter for b in batches]),
        np.concatenate([b.at for b in batches]),
        np.concatenate([b.value for b in batches]),
        np.concatenate([b.status for b in batches]),
        np.concatenate([np.array(places, np.int32)[piece.batch.message] for places, piece in pieces]),
    )
    return Decoded(
        batch,
        tuple(headers),
        unknown,
        tuple(replace(r, message=places[r.message]) for places, piece in pieces for r in piece.rejected),
        {places[m]: ms for places, piece in pieces for m, ms in piece.periods.items()},
        {places[m]: body for places, piece in pieces for m, body in piece.notices.items()},
        {places[m]: word for places, piece in pieces for m, word in piece.status.items()},
    )
