"""Names the processor that a benchmark ran on. Called by report.py and curves.py."""

import platform
from pathlib import Path


def machine() -> str:
    """The processor by name, as far as the system tells; one thread of it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else platform.processor()}, {platform.machine()}, one thread"
