"""This machine: devices, pinning, locks between processes, signals, processes."""
