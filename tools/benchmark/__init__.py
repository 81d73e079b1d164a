"""A benchmark of one question: sensor fault or water event? Records, injected faults and plumes, scorer and opponents.

Described for other teams in docs/benchmark.md; ``python -m tools.benchmark`` builds and scores it,
``python -m tools.detection`` prints the tables of docs/detection.md.
"""
