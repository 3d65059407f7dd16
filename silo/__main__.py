"""`python -m silo` is `silo`."""

from silo.cli import main

main()
