"""The services of a running process: what `riverchief.serve` starts and stops, and the periodic jobs of a worker."""
