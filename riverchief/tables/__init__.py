"""Commands over tables without a site: formats, ``assess`` and ``classify``."""
