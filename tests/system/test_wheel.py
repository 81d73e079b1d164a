"""The wheel that goes into the image: it brings every file the programs read, and runs away from the repository."""

import os
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

from infra.texts import say

PACKAGES = tomllib.loads(Path("pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (made,) = folder.glob("*.whl")
    return made


def test_every_file_of_the_packages_and_the_configuration_is_in_it(wheel: Path) -> None:
    inside = set(zipfile.ZipFile(wheel).namelist())
    wanted = {
        str(path)
        for package in PACKAGES
        for path in Path(package).rglob("*")
        if path.is_file() and not {"__pycache__", "assets"} & set(path.parts) and not path.name.startswith(".")
    }
    wanted |= {
        f"riverchief/_config/{path.relative_to('config')}" for path in Path("config").rglob("*") if path.is_file()
    }
    assert wanted <= inside, sorted(wanted - inside)
    assert {"riverchief/_config/rules.toml", "api/pages/static/manifest.json"} <= inside
    assert not [name for name in inside if name.startswith(("tests/", "docs/"))]


def test_it_runs_where_there_is_no_repository(wheel: Path, tmp_path: Path) -> None:
    zipfile.ZipFile(wheel).extractall(tmp_path / "installed")
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(tmp_path / "installed"), "HOME": str(tmp_path)}
    (tmp_path / "elsewhere").mkdir()

    def riverchief(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "riverchief", *arguments]
        return subprocess.run(
            command, env=environment, cwd=tmp_path / "elsewhere", capture_output=True, text=True, check=False
        )

    where = [sys.executable, "-c", "import riverchief; print(riverchief.__file__)"]
    found = subprocess.run(
        where, env=environment, cwd=tmp_path / "elsewhere", capture_output=True, text=True, check=True
    )
    assert found.stdout.startswith(str(tmp_path / "installed")), "the test would look at the repository"
    for command in (
        ["check"],
        ["stations", "list", "--data", "data"],
        ["rules", "check"],
        ["setup", "secrets", "secrets", "--name", "broker.example"],
        ["dashboards", "build", "boards"],
    ):
        done = riverchief(*command)
        assert done.returncode == 0, f"{command}: {done.stderr}"
    assert {path.name for path in (tmp_path / "elsewhere" / "boards").iterdir()} == {
        path.name for path in Path("dashboards/generated").iterdir()
    }


def test_the_benchmarks_are_not_in_it_and_bench_says_so(wheel: Path, tmp_path: Path) -> None:
    zipfile.ZipFile(wheel).extractall(tmp_path / "installed")
    assert not (tmp_path / "installed" / "tools").exists()
    code = """
import sys
from pathlib import Path
from riverchief.cli.app import main
sys.path[:] = [folder for folder in sys.path if not (Path(folder) / "tools" / "bench").is_dir()]
main()
"""
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(tmp_path / "installed"), "HOME": str(tmp_path)}
    command = [sys.executable, "-c", code, "bench", "assess"]
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stderr
    assert say("command.bench_checkout").en in done.stderr
