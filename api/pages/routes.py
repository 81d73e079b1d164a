"""The routers of all pages, each with its file; the application includes them."""

from api.pages import (
    assessment,
    assets,
    board,
    health,
    kit,
    ledger,
    live,
    quarantine,
    redirects,
    registry,
    review,
    rules,
    station,
    trail,
    wall,
)

ROUTERS = tuple(
    module.router
    for module in (
        assets,
        live,
        assessment,
        trail,
        kit,
        registry,
        review,
        rules,
        station,
        wall,
        board,
        health,
        ledger,
        quarantine,
        redirects,
    )
)
