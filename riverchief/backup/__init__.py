"""Backup, restore, and copying a site to another database; imported by the command line and the services."""
