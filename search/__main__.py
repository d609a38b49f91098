"""`python -m search` is the command `search`."""

from search.cli import main

main()
