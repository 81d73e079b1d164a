"""Read the files of a site: shipped configuration, registries, rules, processes and plans."""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

from governance.incidents import dispatch
from governance.incidents.dispatch import Processes
from governance.notify import channels, contacts
from governance.notify.contacts import Directory
from governance.platforms import model as platform_model
from governance.platforms.model import Platforms
from infra import outgoing
from infra.errors import ConfigurationError
from infra.texts import Text, at, say
from ingest.rules import rule_file
from ingest.rules.model import Rules
from sensors import registry_csv, registry_rows, registry_toml
from sensors.datum import Box
from sensors.parameters import Catalogue
from sensors.registry_rows import Book
from sensors.stations import Registry
from sensors.wire import mapping
from sensors.wire.mapping import Mappings

if TYPE_CHECKING:
    from governance.assessment.model import Formula
    from governance.notify.oncall import Shift


def shipped(name: str) -> Path:
    """A file of ``config/``: from the checkout, or from the installed package."""
    for folder in (Path(__file__).parent.parent / "config", Path(str(files("riverchief"))) / "_config"):
        if (folder / name).is_file():
            return folder / name
    raise ConfigurationError(say("file.not_shipped", name=name))


def read_rules(path: Path | None, catalogue: Catalogue) -> Rules:
    """The rules of a file, or the shipped ones; raises ConfigurationError naming file and fault."""
    path = path or shipped("rules.toml")
    text = read_text(path)
    with _named(path):
        return parse_rules(text, catalogue)


def parse_rules(text: str, catalogue: Catalogue) -> Rules:
    """Rules from the text of a file; raises ConfigurationError naming every fault."""
    return rule_file.read(text, catalogue)


def read_formula(path: Path | None) -> "Formula":
    """The formula of the assessment in a file, or the shipped example; raises ConfigurationError naming the fault."""
    from governance.assessment import formula  # with the cryptography of the trail

    path = path or shipped("assessment.toml")
    text = read_text(path)
    with _named(path):
        return formula.read(text)


def read_processes(path: Path | None) -> Processes:
    """The processes of a file, or the shipped ones; raises ConfigurationError naming file and fault."""
    path = path or shipped("processes.toml")
    text = read_text(path)
    with _named(path):
        return dispatch.read(text)


def read_stations(path: Path | None, catalogue: Catalogue) -> Registry:
    """The registry of a file, or the shipped example; raises ConfigurationError naming file and fault."""
    path = path or shipped("stations.toml")
    text = read_text(path)
    with _named(path):
        return registry_toml.read(text, catalogue)


def read_book(
    path: Path, catalogue: Catalogue, *, known: Book | None = None, box: Box | None = None, kind: str | None = None
) -> Book:
    """Stations and what hangs there from a file (TOML) or a table (.csv); raises ConfigurationError naming every row.

    ``kind`` is what the rows of a table are, where it has no column of that name.
    """
    table = path.suffix.lower() == ".csv"
    if kind is not None and kind not in registry_rows.COLUMNS:
        raise ConfigurationError(say("file.kind", kind=kind, known=", ".join(registry_rows.COLUMNS)))
    text = _table_text(path) if table else read_text(path)
    with _named(path):
        if table:
            return registry_csv.read_book(text, catalogue, kind=kind, known=known, box=box)
        return registry_toml.read_book(text, catalogue, known=known, box=box)


def _table_text(path: Path) -> str:
    """The table as UTF-8 or as Chinese spreadsheets save it (GB 18030)."""
    data = _bytes(path)
    for encoding in ("utf-8-sig", "gb18030"):
        try:
            return data.decode(encoding)
        except UnicodeDecodeError:
            continue
    raise ConfigurationError(say("file.no_text", path=path))


def read_mappings(path: Path | None, catalogue: Catalogue) -> Mappings:
    """The payload mappings of a file, none without one; raises ConfigurationError naming file, entry and reason."""
    if path is None:
        return mapping.NONE
    text = read_text(path)
    with _named(path):
        return mapping.read(text, catalogue, presets())


def presets() -> dict[str, str]:
    """The shipped mappings that a site may include, by their names."""
    folder = shipped("mappings.toml").parent / "mappings"
    return {file.stem: file.read_text(encoding="utf-8") for file in sorted(folder.glob("*.toml"))}


def read_text(path: Path, encoding: str = "utf-8-sig") -> str:
    """The text of a file with its line ends as in Python; raises ConfigurationError naming the file and the byte."""
    try:
        return io.StringIO(_bytes(path).decode(encoding), newline=None).read()
    except UnicodeDecodeError as error:
        raise ConfigurationError(say("file.no_utf8", path=path, start=error.start + 1)) from error


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise ConfigurationError(say("file.missing", path=path)) from None
    except OSError as error:
        raise ConfigurationError(say("file.unreadable", file=path, error=error.strerror)) from error


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """The name of the file before what is wrong in it."""
    try:
        yield
    except ConfigurationError as error:
        raise ConfigurationError(at(path, error.text)) from error


def read_platforms(path: Path | None, usual_secret: str | None) -> Platforms:
    """The external platforms of a file; none without one. Raises ConfigurationError naming file and fault."""
    if path is None:
        return Platforms()
    text = read_text(path)
    with _named(path):
        found = platform_model.read(text, lambda file: _secret_in(path.parent / file), usual_secret)
    lists = (one.list.url for one in found.known if one.list is not None)
    outgoing.allow(named=(outgoing.endpoint_of(url) for url in lists if url))
    return found


def read_contacts(path: Path) -> Directory:
    """The contacts of a file, every channel understood; raises ConfigurationError that names no address."""
    text = read_text(path)
    with _named(path):
        found = contacts.read(text, lambda file: _secret_in(path.parent / file))
        channels.check(found)
    urls = (channels.host(channel) for contact in found.contacts for channel in contact.channels)
    outgoing.allow(named=(url for url in urls if url))
    return found


def read_shifts(path: Path, directory: Directory) -> "tuple[list[Shift], list[Text]]":
    """The shifts of a plan, and warnings; raises ConfigurationError naming file and fault."""
    from governance.notify import oncall  # with the database

    text = read_text(path)
    with _named(path):
        return oncall.read(text, lambda key: directory.get(key) is not None)


def _secret_in(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(say("file.secret", file=file, error=type(error).__name__)) from error
