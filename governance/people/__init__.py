"""People: accounts, appointments and tokens."""
