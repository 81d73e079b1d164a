"""``riverchief doctor``: test every connection, name what is wrong and what to do next.

A module here holds what is asked of one neighbour; ``examine`` asks them all at once. Nothing here mends anything: the
schema is not migrated, no delivery is sent, no heartbeat given. May import everything; nothing imports it but the
command line.
"""

from riverchief.doctor.examine import examine, settings_unreadable
from riverchief.doctor.findings import Finding, Level

__all__ = ["Finding", "Level", "examine", "settings_unreadable"]
