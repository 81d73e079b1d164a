"""Where readings and the registry live: the port every store keeps, its adapters, and the names they share."""
