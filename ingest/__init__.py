"""From bytes to findings: sources, the pipeline and its stages, rules, storage, re-evaluation of late readings.

What belongs here: everything between a received message and the findings that :mod:`governance` groups into incidents.
What does not: decoding and quality tests (:mod:`sensors`), settings and wiring (:mod:`riverchief`). ``rules`` and the
modules listed in the purity contract of pyproject.toml use no clock, database or network. May import ``governance``,
``sensors`` and ``infra``.
"""
