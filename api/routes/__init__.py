"""The routes of the REST API, one file a subject: parse, call, answer. What they decide is decided elsewhere."""
