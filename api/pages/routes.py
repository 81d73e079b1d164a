"""The routers of all pages, each with its file; the application includes them."""

from api.pages import (
    assets,
    board,
    health,
    kit,
    ledger,
    live,
    messages,
    oncall,
    people,
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
        health,
        ledger,
        quarantine,
        messages,
        oncall,
        people,
        redirects,
    )
)
