"""What the tests of adapters share: a site of their own, and the site of the pages with its application."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi import FastAPI

from api.app import create_app
from infra.database import Database
from sensors.quality import engine as quality_engine
from tests import pages_site
from tests.world import World


@pytest.fixture
def world(dialect: str, tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path, dialect=dialect)
    yield world
    world.database.close()


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    """The database of the site of the pages, one for each module of tests."""
    found = pages_site.seed(tmp_path_factory.mktemp("site"))
    yield found
    found.close()


@pytest.fixture(scope="module")
def app(database: Database, tmp_path_factory: pytest.TempPathFactory) -> FastAPI:
    """The application over it; nobody is asked to sign in."""
    return create_app(pages_site.context(database, tmp_path_factory.mktemp("photos"), token=None))


@pytest.fixture
def no_series_is_new(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the first three days of a series no reading is compared with others."""
    monkeypatch.setattr(quality_engine, "COLD_START_MS", 0)
