"""One detector a file: pure functions over columns of readings; ``sensors.quality.engine`` runs them."""
