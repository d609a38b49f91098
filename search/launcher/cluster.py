"""A Dask cluster as a launch sees it: what it offers, where tasks are, and one word to all of its workers.

Connects to a scheduler by distributed.Client, and asks for nothing that is not public there, so that clusters
that grow and shrink (dask-jobqueue, dask-kubernetes) work as fixed ones do. A thread of its own speaks with
the scheduler every two seconds, so that one that does not answer holds up neither the board nor Ctrl-C: it
writes (order, beat) into a Variable, which the tasks read (cluster_task.py), and reads what machines offer.
Opened by search/commands/on_cluster.py; used by cluster_pool.py.
"""

import logging
import re
import socket
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from importlib import import_module
from ipaddress import ip_address
from secrets import token_hex
from typing import Any

from search.launcher.cluster_task import Order
from space.errors import ClusterError, UsageError
from storage import url as urls

RESOURCES = ("GPU", "CPU")  # of Dask workers; the first that is offered is asked for

ADDRESS = re.compile(r"(tcp|tls|ws|wss|ucx|inproc)://[^\s/:]\S*")

PREFIX = "search-worker-"  # of the keys of our tasks: Dask learns by it how long they take

CONNECT_SECONDS = 10.0

SPEAK_SECONDS = 2.0  # between two words to the workers

FIRST_MACHINE_SECONDS = 600.0  # that an adaptive cluster may take to bring its first machine

LOUD = ("distributed", "distributed.client", "distributed.core", "distributed.comm", "tornado.application")


@dataclass(frozen=True)
class Offer:
    """What the machines of a cluster offer at one moment."""

    places: Mapping[str, Mapping[str, float]] = field(default_factory=dict)  # by address of a Dask worker

    def slots(self, resource: str) -> int:
        """How many workers of ours have a place, one of the resource each."""
        return sum(int(has.get(resource, 0)) for has in self.places.values())

    @property
    def resource(self) -> str | None:
        """That which workers are to ask for; None where neither is offered."""
        return next((name for name in RESOURCES if self.slots(name)), None)


def require_address(address: str) -> None:
    """Raises UsageError for what is no address of a scheduler."""
    if not ADDRESS.fullmatch(address):
        raise UsageError(f"--cluster {address}: give the scheduler's address, as tcp://host:8786")


def require_reachable_store(storage: str, address: str) -> None:
    """Raises UsageError for a store that machines of the cluster cannot reach."""
    store = urls.parse(storage)
    if urls.is_sqlite(store):
        raise UsageError(
            "--cluster needs a store that its machines reach: a PostgreSQL server, not a file of SQLite"
        )
    hosts = urls.hosts(store)
    is_near = all(_is_local(host) for host in hosts) and "service" not in store.query
    if is_near and not _is_local(re.sub(r"^\w+://\[?|\]?(:\d+)?(/.*)?$", "", address)):
        raise UsageError(
            f"--cluster {address}: its machines do not reach a database at"
            f" {', '.join(hosts) or 'a local socket'}; give its address in the network"
        )


def _is_local(host: str) -> bool:
    """Whether a host's name means the machine that says it."""
    if host in ("", "localhost", socket.gethostname()) or host.startswith("/"):
        return host != socket.gethostname()
    with suppress(ValueError):
        return ip_address(host).is_loopback
    return False


class Cluster:
    """A connection to a scheduler, kept up by a thread from connect() to close()."""

    def __init__(self, address: str) -> None:
        """Raises ClusterError where distributed is not installed, or the scheduler cannot be reached."""
        self.address = address
        self.orders = f"search-orders-{token_hex(8)}"
        self.offer = Offer()
        self.resource: str | None = None  # that workers ask for, from require_offer() on
        self.placed: Mapping[str, int] = {}  # our tasks by address of the Dask worker that has them
        self.keys: frozenset[str] = frozenset()  # of these tasks
        self.order, self.told = Order.WORK, Order.WORK  # to be told, and told before the last look
        self.lost_since = float("inf")  # by time.monotonic()
        self._beat = 0
        self._woken, self._closing = threading.Event(), False
        self._distributed = _imported()
        self.client = self._connected()
        self._thread = threading.Thread(target=self._speak_on, name="cluster", daemon=True)

    def _connected(self) -> Any:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # versions are compared below
                return self._distributed.Client(
                    self.address, timeout=CONNECT_SECONDS, set_as_default=False, name="search-launch"
                )
        except Exception as error:  # of whatever kind: OSError, ValueError, those of another protocol
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise ClusterError(f"cannot reach the Dask scheduler at {self.address}: {reason}") from None

    def require_same_version(self) -> None:
        """Raises ClusterError where a part of the cluster runs another version of distributed than this."""
        found = self.client.get_versions()
        here = _distributed_version(found["client"])
        there = {"the scheduler": found["scheduler"], **found["workers"]}
        for who, of in there.items():
            if of and _distributed_version(of) != here:
                raise ClusterError(
                    f"{who} at {self.address} runs distributed {_distributed_version(of)}, this launcher"
                    f" {here}: install the same version"
                )

    def require_offer(self, say: Callable[[str], None], on_cpu: bool = False, asks: bool = True) -> str:
        """The resource that workers are to ask for. An adaptive cluster without a machine is asked for one;
        where it is not (`asks`), GPUs are taken to be offered, or CPUs with `on_cpu`.

        Raises ClusterError where none comes, or those that are there offer neither resource.
        """
        self.look()
        if not self.offer.places and not asks:
            say("the cluster has no machine yet: a launch asks for one")
            self.resource = "CPU" if on_cpu else RESOURCES[0]
            return self.resource
        if not self.offer.places:
            say("the cluster has no machine yet: asks for one")
            first = self.client.submit(socket.gethostname, key=f"search-first-{token_hex(8)}", pure=False)
            try:
                first.result(timeout=FIRST_MACHINE_SECONDS)
            except Exception:
                raise ClusterError(
                    f"no machine came to the cluster at {self.address} in {FIRST_MACHINE_SECONDS:.0f} s"
                ) from None
            finally:
                first.release()
            self.look()
        resource = "CPU" if on_cpu and self.offer.slots("CPU") else self.offer.resource
        if resource is None or (on_cpu and resource != "CPU"):
            wanted = "CPU=1" if on_cpu else "GPU=1 nor CPU=1"
            raise ClusterError(
                f"the machines of the cluster offer {'no' if on_cpu else 'neither'} {wanted}:"
                " start them with `dask worker --resources`, docs/cluster.md"
            )
        self.resource = resource
        return resource

    def start(self) -> None:
        """From now on the workers hear that this launcher lives."""
        if not self._thread.is_alive():
            self._thread.start()

    def say(self, order: Order) -> None:
        """Tells all workers of this launch; an order once given is not taken back."""
        if order > self.order:
            self.order = order
            self._woken.set()

    def look(self) -> None:
        """Asks what is offered and where our tasks are. Raises what distributed does."""
        workers = self.client.scheduler_info(n_workers=-1)["workers"]  # by default five, before 2026.7
        self.offer = Offer({address: dict(of["resources"]) for address, of in workers.items()})
        tasks = {
            address: [key for key in keys if str(key).startswith(PREFIX + self.orders[-8:])]
            for address, keys in self.client.processing().items()
        }
        self.keys = frozenset(str(key) for keys in tasks.values() for key in keys)
        self.placed = {address: len(keys) for address, keys in tasks.items()}

    def key(self, slot: str, start: str) -> str:
        """The name of a task: nothing of it is secret."""
        return f"{PREFIX}{self.orders[-8:]}-{slot}-{start}"

    @property
    def is_up(self) -> bool:
        return bool(self.client.status == "running")

    @property
    def at_work(self) -> int:
        """How many of our tasks have a place of their own, as of the last look."""
        resource = self.resource or RESOURCES[-1]
        room = {address: int(has.get(resource, 0)) for address, has in self.offer.places.items()}
        return sum(min(count, room.get(address, 0)) for address, count in self.placed.items())

    def _speak_on(self) -> None:
        while not self._closing:
            try:
                self.speak()
                self.lost_since = float("inf")
            except Exception:  # a scheduler out of reach raises in many ways
                self.lost_since = min(self.lost_since, time.monotonic())
                self._connect_again()
            self._woken.wait(SPEAK_SECONDS)
            self._woken.clear()

    def speak(self) -> None:
        """One word to the workers, and one look. Raises what distributed does."""
        self._beat += 1
        order = self.order
        self._distributed.Variable(self.orders, client=self.client).set([int(order), self._beat])
        self.look()
        self.told = order

    def _connect_again(self) -> None:
        """A client that has lost its scheduler for good is replaced."""
        if self.client.status not in ("closed", "closing") or self._closing:
            return
        with suppress(ClusterError):
            self.client = self._connected()

    def close(self) -> None:
        """Ends the thread and the connection; tasks that are left are let go."""
        self._closing = True
        self._woken.set()
        if self._thread.is_alive():
            self._thread.join(CONNECT_SECONDS)
        with suppress(Exception):
            self._distributed.Variable(self.orders, client=self.client).delete()
        with suppress(Exception):
            self.client.close(timeout=CONNECT_SECONDS)


@contextmanager
def connected(address: str) -> Iterator[Cluster]:
    """A cluster of the same version. Raises UsageError and ClusterError, in one line."""
    require_address(address)
    cluster = Cluster(address)
    try:
        cluster.require_same_version()
        yield cluster
    finally:
        cluster.close()


def _imported() -> Any:
    """The package distributed, quiet: what goes wrong is said here, in a line."""
    try:
        distributed = import_module("distributed")
    except ImportError as error:
        raise ClusterError(
            f"--cluster needs the package distributed ({error}); pip install 'parsimony[cluster]' brings it"
        ) from None
    for name in LOUD:
        logging.getLogger(name).setLevel(logging.CRITICAL)
    return distributed


def _distributed_version(of: Mapping[str, Any]) -> str:
    return str(of["packages"]["distributed"])
