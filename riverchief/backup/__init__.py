"""Backup, restore, and moving a site to another database."""
