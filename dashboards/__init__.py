"""What Grafana shows, as typed code; the JSON in ``generated/`` is made from it and never edited by hand.

Today there is the dashboard of the platform itself, read from Prometheus. The dashboards of the water follow with the
InfluxDB store they read.
"""
