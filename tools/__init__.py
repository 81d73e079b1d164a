"""Measurements, reports and pictures for developers: run from a checkout, not installed.

May import every package; only `riverchief bench` imports from here.
"""
