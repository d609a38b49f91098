"""The tables of docs/speed.md: throughput, coordination, start, memory and whole searches."""
