"""`python -m nvr` is the same as `nvr`."""

from nvr.cli import main

main()
