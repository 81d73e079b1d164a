"""The fields of a page's form, for its route. A form with files or several values of a name is read by its page."""

from typing import Annotated

from fastapi import Depends, Request

MOST_FIELDS = 60
LONGEST = 5000
"""Letters of a field that are read."""


async def _fields(request: Request) -> dict[str, str]:
    async with request.form(max_files=0, max_fields=MOST_FIELDS) as form:
        return {
            name: value.replace("\x00", "").strip()[:LONGEST] for name, value in form.items() if isinstance(value, str)
        }


Fields = Annotated[dict[str, str], Depends(_fields)]
"""What a form says by field, without space around it and without what no database keeps."""
