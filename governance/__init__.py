"""Governance: from findings to closed cases, and who is notified, may act and is accountable.

Belongs here: incidents, messages and deliveries, people and roles, external platforms, reports, the audit trail. Does
not belong here: readings and rules (``ingest``), HTTP and pages (``api``). May import ``sensors`` and ``infra``;
imported by ``ingest``, ``api`` and ``riverchief``. Stores take an open connection and never commit.
"""
