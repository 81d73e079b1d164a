"""The histograms of all series in pieces are those of a plain array, whatever was added, replaced and cleared."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from sensors.quality.histograms import BINS
from sensors.quality.sketches import Sketches

STATISTICS, SERIES = 2, 5
SIZE = SERIES * STATISTICS * BINS

adding = st.tuples(st.just("add"), st.lists(st.integers(0, SIZE - 1), max_size=20))
replacing = st.tuples(
    st.just("put"),
    st.dictionaries(st.integers(0, SERIES - 1), st.dictionaries(st.integers(0, STATISTICS * BINS - 1), st.just(7))),
)
clearing = st.tuples(st.just("clear"), st.lists(st.integers(0, SERIES - 1), unique=True))


@settings(max_examples=60, deadline=None)
@given(st.lists(adding | replacing | clearing, max_size=12))
def test_sketches_in_pieces_count_like_a_plain_array(orders: list[tuple[str, object]]) -> None:
    plain, pieces = np.zeros((SERIES, STATISTICS, BINS), np.int32), Sketches(STATISTICS)
    pieces.grow(SERIES)
    for what, of in orders:
        if what == "add":
            place = np.array(of, np.int64)
            distinct = len(np.unique(place)) == len(place)
            np.add.at(plain.reshape(-1), place, np.int32(64))
            pieces.add(place, np.full(len(place), 64, np.int32), distinct=distinct)
        elif what == "put":
            rows = np.array(list(of), np.int64)
            new = np.zeros((len(rows), STATISTICS * BINS), np.int32)
            for i, cells in enumerate(of.values()):
                new[i, list(cells)] = list(cells.values())
            plain[rows] = pieces[rows] = new.reshape(-1, STATISTICS, BINS)
        else:
            plain[of] = 0
            pieces[np.array(of, np.int64)] = 0
        assert np.array_equal(pieces[:], plain)


def test_pieces_that_were_cleared_are_used_again() -> None:
    pieces = Sketches(STATISTICS)
    pieces.grow(SERIES)
    place = np.arange(SIZE)
    sizes = []
    for _ in range(3):
        pieces.add(place, np.full(SIZE, 64, np.int32), distinct=True)
        sizes.append(pieces.nbytes)
        pieces[np.arange(SERIES)] = 0
    assert sizes[1] == sizes[2] <= sizes[0] + 4 * SIZE
