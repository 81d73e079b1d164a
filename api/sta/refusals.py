"""What cannot be answered: 400 for a request that is not valid, 501 for what this service does not do."""

from api.problems import NOT_IMPLEMENTED, Problem
from infra.errors import ConfigurationError
from infra.texts import say


def invalid(option: str, text: str) -> ConfigurationError:
    """A part of the request that cannot be read."""
    return ConfigurationError(say("sta.invalid", option=option, text=text[:120]))


def unknown(kind: str, name: str, known: object) -> ConfigurationError:
    """A property or a link that entities of this kind do not have."""
    return ConfigurationError(say("sta.unknown", kind=kind, name=name[:80], known=known))


def mismatch(left: str, right: str) -> ConfigurationError:
    """An operation between values of different types."""
    return ConfigurationError(say("sta.mismatch", left=left, right=right))


def limit(what: str, most: int) -> ConfigurationError:
    """A request that is larger than allowed."""
    return ConfigurationError(say("sta.limit", what=what, most=most))


def unsupported(what: str) -> Problem:
    """Something of the standard that this service does not do."""
    return Problem(NOT_IMPLEMENTED, say("sta.unsupported", what=what[:120]))
