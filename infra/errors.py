"""The errors that are raised on purpose.

Bad *data* is a value (:class:`sensors.reading.Rejected`); an error is a broken promise.
"""

from infra.texts import Text, both, same


class WaterError(Exception):
    """An error whose text may be shown to a person: it names the thing and the value, never a secret.

    ``retryable`` says whether the same call may succeed later without anybody changing anything.
    """

    retryable = False

    def __init__(self, text: Text) -> None:
        super().__init__(text)
        self.text = text

    def __str__(self) -> str:
        return both(self.text)


class InvalidValue(WaterError, ValueError):
    """What a validator of Pydantic refuses; Pydantic takes a ValueError only."""


def text_of(error: Exception) -> Text:
    """The text of an error; the words of the library for one that is not ours."""
    return error.text if isinstance(error, WaterError) else same(error)


class StorageUnavailable(WaterError):
    """The store cannot be reached or cannot write now."""

    retryable = True


class SessionRenewed(StorageUnavailable):
    """The session with the database was lost and renewed: read again what is cached, then write."""


class NotTheWriter(StorageUnavailable):
    """Another process writes here now; for good."""

    retryable = False


class LongTermUnavailable(StorageUnavailable):
    """Readings that have left the database cannot be read now."""


class ConfigurationError(WaterError):
    """A file or setting contradicts itself or names something that does not exist."""


class NotFound(WaterError):
    """The requested object does not exist."""


class Refused(WaterError):
    """The request is not allowed in the present state."""
