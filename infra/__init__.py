"""Infrastructure of every package: database session, file lock, periodic thread, clock and times, texts, errors.

Nothing here knows of water or of government, and nothing here imports another package. Every package may import it.
"""
