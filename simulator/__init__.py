"""Simulated and recorded water, published the way devices publish.

Here: a seeded model of the water (``physics``), scenarios (``scenario``), the devices (``devices``), recorded tables as
devices (``replay``, ``records/``), whole runs (``play``, ``continuous_run``) and their truth (``truth``). Not here:
reading tables from files, starting brokers, anything that judges readings.

May import only ``sensors`` of ours; only ``riverchief`` (and tests) may import it.
"""
