"""External platforms: their vocabulary (pure), callbacks, and the daily reconciliation."""
