"""What cannot be answered: 400 for a request that is not valid, 501 for what this service does not do."""

from api.problems import METHOD_NOT_ALLOWED, NOT_IMPLEMENTED, Problem, shorten
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


def needed(kind: str, name: str) -> ConfigurationError:
    """A part that an entity cannot be made without."""
    return ConfigurationError(say("sta.needed", kind=kind, name=name))


def wrong(kind: str, name: str, value: object, expected: str) -> ConfigurationError:
    """A part that cannot be what it is."""
    return ConfigurationError(say("sta.wrong", kind=kind, name=name[:80], text=shorten(value), expected=expected))


def not_kept(kind: str, name: str) -> ConfigurationError:
    """A property of the standard for which the registry has no place."""
    return ConfigurationError(say("sta.not_kept", kind=kind, name=name[:80]))


def never(kind: str, method: str, instead: str) -> Problem:
    """A change that no request makes; ``instead`` is the key of what to do."""
    detail = say("sta.never", kind=kind, method=method, instead=say(f"sta.{instead}"))
    return Problem(METHOD_NOT_ALLOWED, detail, headers={"Allow": "GET, HEAD"})


def unsupported(what: str) -> Problem:
    """Something of the standard that this service does not do."""
    return Problem(NOT_IMPLEMENTED, say("sta.unsupported", what=what[:120]))
