"""Assessment (考核) of a month's work by chief, street or reach, computed from the audit trail alone. Pure.

Incidents and their deadlines come from the entries ``incident.*``, the class of the water from the daily entry
``water.classes``: the same entries always give the same numbers. Patrols come from a `Patrols`, where there is one.
The assessment concerns the incidents opened in the month (Beijing time), as they were ``closing_grace_days`` after it.

``model`` names what there is, ``formula`` reads the weights and terms, ``month`` says which instants belong to a month,
``history`` reads the trail, ``assess`` computes the rows. The weights stand in ``config/assessment.toml`` and are an
example. Appeals and marked periods are kept by `governance.assessment_appeals` and `governance.assessment_periods`.
"""
