"""The sections of ``docs/performance.md`` that the benchmarks write."""

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

PAGE = Path(__file__).parents[2] / "docs" / "performance.md"
IMAGES = PAGE.with_name("images")


def write(section: str, text: str, page: Path = PAGE) -> None:
    """Put the text between the marks of the section; raises ValueError where the page has none."""
    begin, end = f"<!-- {section}: written by riverchief bench {section} --write -->", f"<!-- end of {section} -->"
    whole = page.read_text("utf-8")
    start, stop = whole.index(begin) + len(begin), whole.index(end)
    page.write_text(f"{whole[:start]}\n{text}\n{whole[stop:]}", "utf-8")


def measured_on(machine: Mapping[str, Any]) -> str:
    """Date and machine, one line."""
    day = datetime.now(UTC).date().isoformat()
    hardware = f"{machine['cores']} cores ({machine['cpu']}), {machine['memory_gib']:.0f} GiB"
    return f"{day}, {hardware}, Python {machine['python']}."
