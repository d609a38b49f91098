"""One worker process: claims, proposes, trains and records one trial after another."""
