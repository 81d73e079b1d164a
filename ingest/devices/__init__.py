"""Logins of devices, and claims of devices that are not registered yet.

Imported by ``api`` and ``riverchief``. The devices themselves are in the registry (:mod:`ingest.storage.registry`).
"""
