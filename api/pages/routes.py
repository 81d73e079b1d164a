"""The routers of all pages, each with its file; the application includes them."""

from api.pages import (
    assets,
    board,
    drafts,
    health,
    kit,
    ledger,
    live,
    look,
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
        look,
        kit,
        registry,
        review,
        rules,
        station,
        wall,
        board,
        drafts,
        health,
        ledger,
        quarantine,
        redirects,
    )
)
