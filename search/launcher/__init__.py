"""What `search launch` does behind its command: prepares a study, and runs and watches worker processes."""
