"""The routers of all pages, each with its file; the application includes them."""

from api.pages import (
    assets,
    board,
    health,
    incident,
    kit,
    ledger,
    live,
    quarantine,
    redirects,
    registry,
    review,
    rules,
    station,
    wall,
)

ROUTERS = tuple(
    module.router
    for module in (
        assets,
        live,
        kit,
        registry,
        review,
        rules,
        station,
        wall,
        board,
        incident,
        health,
        ledger,
        quarantine,
        redirects,
    )
)
