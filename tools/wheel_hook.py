"""The hook of the wheel build: build the pages' assets first, unless an editable installation is made."""

import subprocess
import sys
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class BuildAssets(BuildHookInterface):  # type: ignore[type-arg]
    """Run ``tools/build_assets.py`` before a wheel is put together."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if version != "editable":
            subprocess.run([sys.executable, str(Path(self.root) / "tools" / "build_assets.py")], check=True)
