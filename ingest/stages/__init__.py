"""The stages of the pipeline, one file each; ``ingest.pipeline`` runs them in order."""
