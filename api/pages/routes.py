"""The routers of all pages, each with its file; the application includes them."""

from api.pages import (
    assets,
    board,
    health,
    kit,
    ledger,
    live,
    maintenance,
    map,
    quarantine,
    redirects,
    registry,
    review,
    rivers,
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
        review,
        rivers,
        rules,
        station,
        wall,
        board,
        health,
        ledger,
        maintenance,
        quarantine,
        redirects,
    )
)
