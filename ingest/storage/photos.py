"""Photos as files named by their SHA-256: the same photo twice is one file, and no file changes."""

import hashlib
import os
import re
import tempfile
from pathlib import Path

from infra.errors import ConfigurationError, NotFound, StorageUnavailable
from infra.texts import say

MAX_PHOTO_BYTES = 1024 * 1024
"""Limit of a photo; the field app sends at most 400 kB."""
_NAME = re.compile(r"[0-9a-f]{64}")
_BEGINNINGS = ((b"\xff\xd8\xff", "image/jpeg"), (b"\x89PNG\r\n\x1a\n", "image/png"))


def media_type(data: bytes) -> str:
    """The media type of a photo by its first bytes; raises ConfigurationError for other content or a too large file."""
    if len(data) > MAX_PHOTO_BYTES:
        raise ConfigurationError(say("attachment.photo_large", size=len(data), most=MAX_PHOTO_BYTES))
    for beginning, name in _BEGINNINGS:
        if data.startswith(beginning):
            return name
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "image/webp"
    raise ConfigurationError(say("attachment.body_no_photo"))


class Photos:
    """The folder of the photos."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def add(self, data: bytes) -> str:
        """Store a photo durably; its SHA-256 in hex. Raises StorageUnavailable."""
        name = hashlib.sha256(data).hexdigest()
        path = self._folder / name[:2] / name
        if path.exists():
            return name
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            handle, temporary = tempfile.mkstemp(dir=path.parent)
            with os.fdopen(handle, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except OSError as error:
            raise StorageUnavailable(say("store.photo_not_kept", error=error.strerror)) from error
        return name

    def holds(self, name: str) -> bool:
        return bool(_NAME.fullmatch(name)) and (self._folder / name[:2] / name).is_file()

    def names(self) -> list[str]:
        """The names of all photos."""
        return sorted(path.name for path in self._folder.glob("*/*") if _NAME.fullmatch(path.name))

    def path(self, name: str) -> Path:
        """The file of a photo; raises NotFound."""
        if not self.holds(name):
            raise NotFound(say("attachment.no_such_photo", name=name[:80]))
        return self._folder / name[:2] / name
