"""Tests that cannot run on a machine are counted by name in the last line of a run, on CI too."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests import disk

MAY_NOT_MOUNT = ["setpriv", "--bounding-set=-sys_admin", "--inh-caps=-sys_admin"]


@pytest.mark.skipif(shutil.which("setpriv") is None, reason="no setpriv here (util-linux)")
def test_a_run_that_can_cut_no_power_says_so_in_its_last_line_and_does_not_fail() -> None:
    wanted = ["tests/faults/test_power_loss.py", "-k", "not_synced_is_lost", "-p", "no:cacheprovider", "-q"]
    command = [*([] if disk.impossible() else MAY_NOT_MOUNT), sys.executable, "-m", "pytest", *wanted]
    variables = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env={**variables, "CI": "true"}, cwd=Path.cwd()
    )
    assert done.returncode == 0, done.stdout + done.stderr
    *_, reason, last = [line for line in done.stdout.splitlines() if line.strip()]
    assert "1 power loss not tested" in last
    assert "skipped" not in last
    assert "CAP_SYS_ADMIN" in reason or "loop devices" in reason


def test_a_missing_program_is_no_reason_of_the_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disk, "_path", lambda: "/nowhere")
    assert disk.not_installed() is not None
    with pytest.raises(AssertionError, match="e2fsprogs"):
        disk.Disk()
