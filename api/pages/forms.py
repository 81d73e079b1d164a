"""The fields of a page's form, for its route. A form with files or several values of a name is read by its page."""

from typing import Annotated

from fastapi import Depends, Request

MAX_FIELDS = 60
MAX_FIELD_LENGTH = 5000
"""Letters of a field that are read."""


async def _fields(request: Request) -> dict[str, str]:
    async with request.form(max_files=0, max_fields=MAX_FIELDS) as form:
        return {
            name: value.replace("\x00", "").strip()[:MAX_FIELD_LENGTH]
            for name, value in form.items()
            if isinstance(value, str)
        }


Fields = Annotated[dict[str, str], Depends(_fields)]
"""What a form says by field, without space around it and without what no database keeps."""
