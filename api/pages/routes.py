"""The routers of all pages, each with its file; the application includes them."""

from api.pages import (
    assets,
    board,
    confirm,
    health,
    kit,
    ledger,
    live,
    public,
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
        confirm,
        health,
        ledger,
        public,
        quarantine,
        redirects,
    )
)
