"""What the tests of adapters share: a site of their own."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from sensors.quality import engine as quality_engine
from tests.world import World


@pytest.fixture
def world(dialect: str, tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path, dialect=dialect)
    yield world
    world.database.close()


@pytest.fixture
def no_series_is_new(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the first three days of a series no reading is compared with others."""
    monkeypatch.setattr(quality_engine, "COLD_START_MS", 0)
