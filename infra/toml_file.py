"""Strict reading of TOML files: the first fault is named by file, line and key, never by value."""

import tomllib
from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from infra import toml_text
from infra.errors import ConfigurationError, text_of
from infra.texts import Text, at, same, say


class Table(BaseModel):
    """A table of such a file: nothing unknown in it, nothing changed afterwards."""

    model_config = ConfigDict(extra="forbid", frozen=True)


T = TypeVar("T", bound=Table)


def parse(text: str, shape: type[T]) -> T:
    """Parse the text. Raises ConfigurationError naming the first fault, never a value, which may be a secret."""
    try:
        return shape.model_validate(toml_text.loads(text))
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(say("file.no_toml", error=error)) from error
    except ValidationError as error:
        fault = error.errors(include_input=False, include_url=False)[0]
        where = ".".join(str(part) for part in fault["loc"])
        raise ConfigurationError(at(where, fault_text(fault) or same(fault["msg"]))) from None


def fault_text(fault: Mapping[str, Any]) -> Text | None:
    """The text of a fault that one of our validators raised; None for one found by Pydantic itself."""
    refused = fault.get("ctx", {}).get("error")
    return text_of(refused) if isinstance(refused, ValueError) else None
