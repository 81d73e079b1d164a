"""Roles and rights, terms of office, and the tree of regions: who may do what, where and when. Pure.

No database: people and their appointments are stored in ``governance.people``. Everything in governance may import it.
"""
