"""The routers of all pages, each with its file; the application includes them."""

from api.pages import (
    assets,
    board,
    health,
    inbox,
    kit,
    ledger,
    live,
    map,
    quarantine,
    redirects,
    registry,
    reported,
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
        map,
        kit,
        registry,
        reported,
        review,
        rules,
        station,
        wall,
        board,
        health,
        inbox,
        ledger,
        quarantine,
        redirects,
    )
)
