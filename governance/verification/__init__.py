"""Verification: signed roots of the audit trail kept outside, and the tables compared with the trail.

Reads what the other packages write; nothing in governance imports it.
"""
