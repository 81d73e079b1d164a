"""Score the whole system on a simulated scenario: ``python -m tools.score SCENARIO``.

`run` plays the scenario and compares the outcome with its truth, `matching` holds the rules of counting, and `report`
prints.
"""
