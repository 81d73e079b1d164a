"""All dashboards, in the order of the menu. The uids are frozen: documents, links and bookmarks hang on them."""

from collections.abc import Sequence
from typing import Final

from grafana_foundation_sdk.models.dashboard import Dashboard

from dashboards import fleet, incidents, overview, platform, quality, river, station

_MODULES: Final = (overview, river, station, incidents, quality, fleet, platform)

CONSOLE_URL: Final = "http://127.0.0.1:8080"
"""Where the console is unless a site says otherwise (``grafana.console_url``)."""


def build(console_url: str = CONSOLE_URL) -> Sequence[Dashboard]:
    """Every dashboard; links lead to the console at ``console_url``."""
    return [module.board().build(console_url.rstrip("/")) for module in _MODULES]
