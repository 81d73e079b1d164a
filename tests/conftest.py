"""What the tests share: real servers or a word about their absence, and running sites."""

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.rig import Running

ON_CI = os.environ.get("CI") == "true"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave out, and say so, what cannot run here; on CI a missing server is a failure instead."""
    lacking = {
        "broker": shutil.which("mosquitto") is None and not Path("/usr/sbin/mosquitto").exists(),
        "browser": shutil.which("chromium") is None,
    }
    for item in items:
        for marker, missing in lacking.items():
            if missing and item.get_closest_marker(marker) and not ON_CI:
                item.add_marker(pytest.mark.skip(reason=f"no {marker} here (tests/servers.sh installs it)"))


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Callable[[str], Running]]:
    """Makes running sites; ends whatever they started."""
    made: list[Running] = []

    def make(kind: str) -> Running:
        made.append(Running(tmp_path / f"site-{len(made)}", kind))
        return made[-1]

    yield make
    for one in made:
        one.close()
