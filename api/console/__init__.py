"""The console: NiceGUI pages for people on duty, one file a page, components beside them; others call ``mount``."""
