"""Series and rules in, findings out. Everything is judged in event time; ``engine`` is what the pipeline calls."""
