"""The routers of all pages, each with its file; the application includes them."""

from api.pages import (
    account,
    assets,
    board,
    health,
    kit,
    ledger,
    live,
    login,
    person_access,
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
        login,
        account,
        person_access,
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
        redirects,
    )
)
