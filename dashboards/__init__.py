"""Grafana dashboards as typed code; the JSON in ``generated/`` is made from it and never edited by hand.

One module for each dashboard, ``parts.py`` what they share, ``catalogue.py`` the list. Pure: names come from
``ingest.storage.schema`` and ``sensors``, and nothing here talks to Grafana (``riverchief/grafana.py`` does).
"""
