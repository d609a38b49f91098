"""The commands, one file a group: options in, output and exit codes out. click and rich live here."""
