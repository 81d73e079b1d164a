"""Stored readings judged again: late data, corrections, reviews, checks and visits."""
