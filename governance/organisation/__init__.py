"""Roles, terms of office and the tree of regions: who may do what, where and when. Pure."""
