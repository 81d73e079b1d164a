"""The logins of devices and the claims of new ones."""
