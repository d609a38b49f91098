"""The commands, a file each group of them: options in, printing, exit codes. click and rich live here."""
