"""What people do: incidents and their lifecycle, deliveries to the outside, and the one relational database.

The core (``finding``, ``lifecycle``, ``cloudevents``) is pure; the stores take an open connection and never commit.
May import ``sensors``; imported by ``ingest``, ``api`` and the wiring.
"""
