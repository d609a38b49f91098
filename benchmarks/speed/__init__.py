"""Benchmarks of speed, for docs/speed.md: throughput, coordination, start, memory, whole searches."""
