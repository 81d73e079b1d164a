"""Rules: readings and device reports in, findings out. Pure, in event time.

What belongs here: the model of a rule (``model``), the evaluation of each kind (``threshold``, ``rate``, ``trend``,
``daily_pattern``, ``no_data``, ``water_events``), findings about devices (``device_*``, ``maintenance_due``,
``suspected_faults``), and the texts of findings. What does not: quality tests of readings (:mod:`sensors.quality`),
grouping of findings into incidents (:mod:`ingest.stages`), anything that reads a clock or a database.

The pipeline and its stages call ``engine``; ``api`` and ``riverchief`` read ``model`` and ``explain``.
"""
