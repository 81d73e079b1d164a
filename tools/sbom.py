"""Write the bill of materials of an installation (CycloneDX 1.6): Python libraries, libraries of the pages, images.

``python tools/sbom.py FILE``; `make sbom` writes ``build/sbom.json``. Versions are those that are installed.
"""

import json
import re
import sys
import tomllib
from collections.abc import Iterable, Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement

PROJECT = Path("pyproject.toml")
LOCK = Path("api/pages/assets/package-lock.json")
COMPOSE = Path("docker-compose.yml")
_IMAGE = re.compile(r"image: \$\{\w+:-([^}:]+):([^}@]+)(@sha256:[0-9a-f]{64})?\}")


def document() -> dict[str, Any]:
    """The bill of what is installed here, without times and random numbers: the same installation, the same bill."""
    project = tomllib.loads(PROJECT.read_text(encoding="utf-8"))["project"]
    components = [*_python(project["dependencies"]), *_pages(), *_images()]
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {"component": {"type": "application", "name": "riverchief", "version": project["version"]}},
        "components": sorted(components, key=lambda one: str(one["purl"])),
    }


def _python(dependencies: Iterable[str]) -> Iterator[dict[str, Any]]:
    """All distributions that are needed at run time, also by others."""
    waiting, seen = [Requirement(text) for text in dependencies], set[tuple[str, str]]()
    while waiting:
        wanted = waiting.pop()
        key = (_plain(wanted.name), ",".join(sorted(wanted.extras)))
        if key in seen:
            continue
        seen.add(key)
        for needed in map(Requirement, metadata.requires(wanted.name) or ()):
            extras = wanted.extras or {""}
            if needed.marker is None or any(needed.marker.evaluate({"extra": extra}) for extra in extras):
                waiting.append(needed)
    for found in sorted({name for name, _ in seen}):
        about = metadata.metadata(found)
        licence = about.get("License-Expression") or about.get("License") or ""
        made = _component("library", found, _version(found), f"pkg:pypi/{found}@{_version(found)}")
        yield made | ({"licenses": [{"license": {"name": licence.splitlines()[0][:80]}}]} if licence else {})


def _pages() -> Iterator[dict[str, Any]]:
    for path, one in json.loads(LOCK.read_text(encoding="utf-8"))["packages"].items():
        if path and not one.get("dev"):
            name = path.rpartition("node_modules/")[2]
            purl = f"pkg:npm/{name.replace('@', '%40')}@{one['version']}"
            yield _component("library", name, one["version"], purl)


def _images() -> Iterator[dict[str, Any]]:
    for name, version, digest in dict.fromkeys(_IMAGE.findall(COMPOSE.read_text(encoding="utf-8"))):
        yield _component("container", name, version, f"pkg:docker/{name}@{digest.lstrip('@') or version}")


def _component(kind: str, name: str, version: str, purl: str) -> dict[str, Any]:
    return {"type": kind, "bom-ref": purl, "name": name, "version": version, "purl": purl}


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _version(name: str) -> str:
    return metadata.version(name)


if __name__ == "__main__":
    target = Path(sys.argv[1])
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps(document(), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
