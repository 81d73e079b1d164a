"""Bytes and nouns: the formats devices speak, used by both ends. One module a format."""
