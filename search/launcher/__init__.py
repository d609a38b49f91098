"""`search launch` behind its command: prepares a study, and runs and watches worker processes."""
