"""``python -m riverchief``."""

from riverchief.cli import main

main()
