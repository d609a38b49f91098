"""What `search launch --cluster` checks and asks of a Dask cluster before a study is prepared.

Called by launch_session.py; prints to stderr. What is asked for is a place for each worker, by Dask resource.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from search.commands import options
from search.launcher import cluster as clusters, cluster_pool
from search.launcher.launcher import PlacedBy
from search.machine.devices import Slot
from search.study.console import stderr_console
from search.study.text import counted
from space.errors import UsageError


def require_possible(address: str, storage: str, workers: str, gpus: str) -> None:
    """Raises UsageError for flags that do not go together, before anything is connected."""
    clusters.require_address(address)
    clusters.require_reachable_store(storage, address)
    if options.worker_count(workers) == 0:
        raise UsageError("--workers 0 leaves nothing for --cluster to place")
    if gpus not in ("all", "none"):
        raise UsageError(
            f"--gpus {gpus} names GPUs of this machine; with --cluster each machine offers its own,"
            " or give none for CPUs"
        )


@contextmanager
def places(
    address: str, workers: str, gpus: str, dry_run: bool = False
) -> Iterator[tuple[list[Slot], PlacedBy]]:
    """The slots of a launch on a cluster, while it is connected; for a dry run nothing is started there.

    Raises ClusterError for a cluster that cannot be reached, runs another version or offers nothing.
    """
    wanted = options.worker_count(workers)
    console = stderr_console()
    with clusters.connected(address) as cluster:
        resource = cluster.require_offer(console.print, on_cpu=gpus == "none", asks=not dry_run)
        offered = cluster.offer.slots(resource)
        machines = counted(len(cluster.offer.places), "Dask worker")
        console.print(
            f"cluster  {address}: {machines}, {resource}={offered} offered", highlight=False, markup=False
        )
        yield (
            cluster_pool.slots(wanted or offered, resource),
            PlacedBy(cluster, resource, grows=wanted is None),
        )
