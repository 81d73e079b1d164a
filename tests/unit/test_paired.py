"""Comparing benchmarks: what is noise, what is a change, what is lost."""

import random
from collections.abc import Callable
from pathlib import Path

import pytest

from tools.bench import page, paired


def test_candidates_take_turns_and_each_begins_a_round() -> None:
    order: list[str] = []

    def candidate(name: str) -> Callable[[], str]:
        def measured() -> str:
            order.append(name)
            return name

        return measured

    found = paired.alternate({name: candidate(name) for name in "abc"}, 3)
    assert order == list("abcbcacab")
    assert found == {name: [name] * 3 for name in "abc"}


def test_a_load_that_slows_whole_rounds_leaves_the_ratio_as_it_is() -> None:
    load = [1.0, 9.0, 3.0, 1.5, 7.0]
    found = paired.ratio([2.0 * one for one in load], load)
    assert (found.low, found.median, found.high) == (2.0, 2.0, 2.0)
    assert found.changed


def test_noise_is_no_change_and_a_change_stands_out_of_noise() -> None:
    rng = random.Random(7)
    base = [1 + rng.uniform(-0.1, 0.1) for _ in range(9)]
    same = [1 + rng.uniform(-0.1, 0.1) for _ in range(9)]
    assert not paired.ratio(same, base).changed
    slower = paired.ratio([1.5 * one for one in same], base)
    assert slower.changed
    assert slower.low > 1.2


@pytest.mark.parametrize(
    ("measured", "lost"),
    [([0.2, 0.2, 0.2], True), ([0.2, 0.2, 0.4], False), ([0.9], False)],
    ids=["three times below a third", "only twice", "not once"],
)
def test_a_ratio_is_lost_only_when_every_repeat_is_below_a_third(measured: list[float], lost: bool) -> None:
    left = iter(measured)
    assert paired.lost(lambda: next(left), stated=1.0) is lost


def test_a_section_of_the_page_is_replaced_and_the_rest_stays(tmp_path: Path) -> None:
    file = tmp_path / "page.md"
    marks = "<!-- a: written by riverchief bench a --write -->\n{}\n<!-- end of a -->"
    file.write_text(f"before\n{marks.format('old')}\nafter\n", "utf-8")
    page.write("a", "new", file)
    assert file.read_text("utf-8") == f"before\n{marks.format('new')}\nafter\n"
    with pytest.raises(ValueError, match="substring"):
        page.write("b", "new", file)
