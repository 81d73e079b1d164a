"""The services of a running process: what `riverchief.serve` starts and stops, and the periodic jobs of a worker.

A service is a row of a table (`riverchief.service.Service`); `riverchief.serve` starts and stops them.
"""
