"""The routers of all pages, each with its file; the application includes them."""

from api.pages import (
    assets,
    health,
    kit,
    ledger,
    live,
    quarantine,
    wall,
)

ROUTERS = tuple(
    module.router
    for module in (
        assets,
        live,
        kit,
        wall,
        quarantine,
        ledger,
        health,
    )
)
