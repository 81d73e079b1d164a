"""What the tests of adapters share: a site of their own."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.world import World


@pytest.fixture
def world(dialect: str, tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path, dialect=dialect)
    yield world
    world.database.close()
