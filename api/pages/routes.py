"""The routers of all pages, each with its file; the application includes them."""

from api.pages import (
    assets,
    kit,
    live,
    review,
    wall,
)

ROUTERS = tuple(
    module.router
    for module in (
        assets,
        live,
        kit,
        review,
        wall,
    )
)
