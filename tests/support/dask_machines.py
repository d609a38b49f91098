"""A Dask scheduler and "machines" with a Dask worker each, as processes of a search under faults.

A machine starts its Dask worker again where that ended, as systemd or Kubernetes would; killing a machine
kills all that runs on it, by a mark in its environment.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

from faults import Search, wait_until

MACHINE = "FAULT_MACHINE"
SCHEDULER = "distributed.cli.dask_scheduler"
WORKER = "distributed.cli.dask_worker"


class DaskCluster:
    """One scheduler, and machines by name."""

    def __init__(self, search: Search, host: str = "127.0.0.1") -> None:
        """Starts the scheduler in the network namespace of this thread."""
        self.search = search
        found = search.place / "scheduler.json"
        self._start(
            "scheduler", [sys.executable, "-m", SCHEDULER, "--host", host, "--port", "0", "--no-dashboard",
                          "--scheduler-file", str(found)], {}
        )  # fmt: skip
        wait_until(lambda: found.exists() and found.read_text().endswith("}"), "a scheduler")
        self.address = str(json.loads(found.read_text())["address"])

    def start(self, machine: str) -> None:
        """A machine with one CPU to offer and a data folder of its own."""
        folder = self.search.place / machine
        if not folder.exists():
            shutil.copytree(self.search.place / "data", folder)
        worker = (
            f"{sys.executable} -m {WORKER} {self.address} --nthreads 1 --resources CPU=1 --no-dashboard"
            f" --local-directory {folder}/dask --no-nanny"
        )
        self._start(
            machine,
            ["sh", "-c", f"while :; do {worker}; sleep 0.2; done"],
            {MACHINE: machine, "SEARCH_DATA_DIR": str(folder)},
        )

    def _start(self, name: str, command: list[str], more: dict[str, str]) -> None:
        environment = {k: v for k, v in self.search.environment.items() if not k.startswith("SEARCH_")}
        with (self.search.place / f"{name}.log").open("a") as out:
            started = subprocess.Popen(
                command, cwd=self.search.place, env=environment | more, stdout=out, stderr=out
            )
        self.search.started.append(started)

    def processes(self, machine: str) -> list[int]:
        """All that runs on a machine."""
        wanted = f"{MACHINE}={machine}\0".encode()
        found = []
        for pid in self.search.processes():
            with suppress(OSError):
                if wanted in Path(f"/proc/{pid}/environ").read_bytes():
                    found.append(pid)
        return found

    def kill(self, machine: str) -> None:
        """As when its power is cut: nothing there says a word."""
        while there := self.processes(machine):
            for pid in there:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)

    def end(self) -> None:
        """All machines, then the scheduler."""
        self.search.signal_all(signal.SIGKILL)
        for process in self.search.started:
            process.wait(30)
