"""The trail against roots that are kept outside, and the tables against the trail."""
