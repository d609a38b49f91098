"""The command `search` as a module, for `python -m search`."""

from search.cli import main

main()
