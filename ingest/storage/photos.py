"""Photos as files, each named after what is in it: the same photo twice is one file, and none is ever changed."""

import hashlib
import os
import re
import tempfile
from pathlib import Path

from infra.errors import ConfigurationError, NotFound, StorageUnavailable
from infra.texts import sentence

MOST_BYTES = 1024 * 1024
"""The field app sends at most 400 kB."""
_NAME = re.compile(r"[0-9a-f]{64}")
_BEGINNINGS = ((b"\xff\xd8\xff", "image/jpeg"), (b"\x89PNG\r\n\x1a\n", "image/png"))


def media_type(data: bytes) -> str:
    """What a photo is, by its first bytes; raises ConfigurationError for what is none we show, or too large."""
    if len(data) > MOST_BYTES:
        raise ConfigurationError(sentence("attachment.photo_large", size=len(data), most=MOST_BYTES))
    for beginning, name in _BEGINNINGS:
        if data.startswith(beginning):
            return name
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "image/webp"
    raise ConfigurationError(sentence("attachment.body_no_photo"))


class Photos:
    """The folder of the photos."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def add(self, data: bytes) -> str:
        """Keep a photo for good; its SHA-256 in hex. Raises StorageUnavailable when the disk does not take it."""
        name = hashlib.sha256(data).hexdigest()
        path = self._folder / name[:2] / name
        if path.exists():
            return name
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            handle, half = tempfile.mkstemp(dir=path.parent)
            with os.fdopen(handle, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(half, path)
        except OSError as error:
            raise StorageUnavailable(sentence("store.photo_not_kept", error=error.strerror)) from error
        return name

    def holds(self, name: str) -> bool:
        """Whether the file is here."""
        return bool(_NAME.fullmatch(name)) and (self._folder / name[:2] / name).is_file()

    def names(self) -> list[str]:
        """All photos that are here; one that is still being written is none."""
        return sorted(path.name for path in self._folder.glob("*/*") if _NAME.fullmatch(path.name))

    def path(self, name: str) -> Path:
        """The file of a photo; raises NotFound."""
        if not self.holds(name):
            raise NotFound(sentence("attachment.no_such_photo", name=name[:80]))
        return self._folder / name[:2] / name
