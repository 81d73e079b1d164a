"""Simulated and recorded water, published the way devices publish.

Here: a seeded model of the water (``water``), pollution on top of it (``scenario``), recorded tables as devices
(``replay``, ``records/``), the devices themselves (``device``) and a whole run (``live``). Not here: reading tables
from files, starting brokers, anything that judges readings: the simulator knows the truth, others are measured by it.

May import only ``sensors`` of ours; only ``riverchief`` (and tests) may import it.
"""
