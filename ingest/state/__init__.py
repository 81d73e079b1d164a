"""What ingest keeps between batches and what a restart reads again."""
