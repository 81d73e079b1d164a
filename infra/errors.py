"""The base of every error we raise on purpose.

Bad *data* is a value (:class:`sensors.reading.Rejected`); an error is a broken promise.
"""


class WaterError(Exception):
    """An error whose message may be shown to a person: it names the thing and the value, never a secret.

    ``retryable`` says whether the same call may succeed later without anybody changing anything.
    """

    retryable = False


class StorageUnavailable(WaterError):
    """The store cannot be reached or cannot write now."""

    retryable = True


class LongTermUnavailable(StorageUnavailable):
    """Readings that have left the database cannot be asked for now."""


class ConfigurationError(WaterError):
    """A file or setting contradicts itself or names something that does not exist."""


class NotFound(WaterError):
    """The thing asked for does not exist."""


class Refused(WaterError):
    """What was asked for is not allowed in the present state."""
