"""A study as stored: its configuration, how it is read, its files, exports and statistics."""
