"""Incidents: the model, what findings, people and time change (pure), and the store.

Start with ``model`` (what an incident is) and ``lifecycle`` (the table of what people may do). ``from_findings`` and
``reminders`` are the other two sources of change, ``store`` applies all three, ``change_writer`` and ``rows`` write.
Does not belong here: telling people (``governance.notify``). May import ``audit`` and ``organisation``.
"""
