"""``riverchief doctor``: test every connection, name what is wrong and what to do next.

A module holds the checks of one neighbour; ``examine`` runs all at once. Nothing is changed: the schema is not
migrated, no delivery is sent, no heartbeat given. May import everything; nothing imports it but the
command line.
"""

from riverchief.doctor.examine import examine, settings_unreadable
from riverchief.doctor.findings import Finding, Level

__all__ = ["Finding", "Level", "examine", "settings_unreadable"]
