"""What the tests of adapters share: a site of their own."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.world import World


@pytest.fixture
def world(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    """On SQLite, or on the database that a test names."""
    world = World(tmp_path, dialect=getattr(request, "param", "sqlite"))
    yield world
    world.database.close()
