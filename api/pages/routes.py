"""The routers of all pages, each with its file; the application includes them."""

from api.pages import (
    assets,
    board,
    confirm,
    drafts,
    health,
    inbox,
    kit,
    ledger,
    live,
    look,
    maintenance,
    map,
    public,
    quarantine,
    redirects,
    registry,
    reported,
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
        look,
        map,
        kit,
        registry,
        reported,
        review,
        rivers,
        rules,
        station,
        wall,
        board,
        confirm,
        drafts,
        health,
        inbox,
        ledger,
        public,
        maintenance,
        quarantine,
        redirects,
    )
)
