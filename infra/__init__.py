"""What every package stands on: database session, file lock, periodic thread, clock and times, sentences, errors.

Nothing here knows of water or of government, and nothing here imports another package. Every package may import it.
"""
