"""The errors that are raised on purpose.

Bad *data* is a value (:class:`sensors.reading.Rejected`); an error is a broken promise.
"""

from infra.texts import Text, both, split_languages


class WaterError(Exception):
    """An error whose message may be shown to a person: it names the thing and the value, never a secret.

    The first argument is the message, a `Text` or a string. ``retryable`` says whether the same call may succeed later
    without anybody changing anything.
    """

    retryable = False

    @property
    def text(self) -> Text:
        """The message in both languages."""
        message = self.args[0] if self.args else ""
        return message if isinstance(message, Text) else split_languages(str(message))

    def __str__(self) -> str:
        if len(self.args) == 1 and isinstance(self.args[0], Text):
            return both(self.args[0])
        return super().__str__()


class StorageUnavailable(WaterError):
    """The store cannot be reached or cannot write now."""

    retryable = True


class LongTermUnavailable(StorageUnavailable):
    """Readings that have left the database cannot be read now."""


class ConfigurationError(WaterError):
    """A file or setting contradicts itself or names something that does not exist."""


class NotFound(WaterError):
    """The requested object does not exist."""


class Refused(WaterError):
    """The request is not allowed in the present state."""
