"""Images: where they come from, how they are read and cached, and how they reach the device in batches."""
