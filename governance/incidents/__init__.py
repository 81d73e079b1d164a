"""Incidents: model, lifecycle and deadlines (pure), and their store."""
