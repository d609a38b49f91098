"""A search whose workers Dask places: a machine is killed, a cable between two machines is cut."""

import signal
import threading
from collections.abc import Callable
from typing import Any

import pytest
from faults import Figures, Search, Started, require_equal_results, wait_until
from postgres_server import NoPostgres, Postgres
from two_hosts import FAR, NEAR, SERVER_ADDRESS, Inside, trust

from storage import candidates, leases, workers
from storage.row_types import State

pytest.importorskip("distributed", reason="the extra cluster is not installed")

from dask_machines import DaskCluster

pytestmark = [pytest.mark.faults, pytest.mark.thorough]


def launched(search: Search, cluster: DaskCluster, asked: int, *flags: object) -> Started:
    return search.launch(asked, "--cluster", cluster.address, *flags)


def ready(search: Search, count: int) -> Callable[[], bool]:
    """Whether so many workers are at the study."""
    return lambda: bool(search.study()) and len(search.ask(workers.of_study)) >= count


def more(search: Search, launcher: Started, trials: int) -> Callable[[], bool]:
    start = search.trained()
    return lambda: launcher.ended() or search.trained() >= start + trials


def test_a_machine_that_dies_costs_its_trial_one_attempt(
    server: Postgres,
    search_on: Callable[..., Search],
    check: Callable[..., Any],
    keep: Callable[[Figures], None],
    full: bool,
) -> None:
    """Its place goes to a machine that comes later; the scheduler and the other machine live."""
    search = search_on(server.url())
    search.orders(seconds=0.1)
    cluster = DaskCluster(search)
    cluster.start("m1")
    cluster.start("m2")
    times = 5 if full else 1
    asked = 10 * times + 10
    launcher = launched(search, cluster, asked, "--lease", "5s")
    for turn in range(times):
        wait_until(lambda: launcher.ended() or ready(search, 2)(), "two workers")
        wait_until(more(search, launcher, 4), "some trials")
        if launcher.ended():
            break
        cluster.kill("m2")
        search.fault()
        cluster.start("m2")
        wait_until(more(search, launcher, 2), "trials of the other machine")
        assert turn >= 0
    launcher.require(0)
    cluster.end()
    require_equal_results(search)
    figures = search.settle(check, "a machine of a Dask cluster killed (-9), and started again", asked)
    assert figures.injected >= 1 and figures.interrupted <= figures.injected
    keep(figures)


def test_a_cable_cut_between_two_machines_of_a_cluster_costs_one_attempt_at_most(
    two_hosts: Callable[..., None],
    search_on: Callable[..., Search],
    check: Callable[..., Any],
    keep: Callable[[Figures], None],
    full: bool,
) -> None:
    """Database, scheduler and launcher on one, Dask workers on both; then the far machine is killed too."""
    try:
        server = Postgres(listen_addresses="*")
    except NoPostgres as reason:
        pytest.skip(str(reason))
    seconds = 60 if full else 8
    try:
        with Inside(NEAR):
            server.start()
            trust(server)
            search = search_on(f"postgresql://postgres@{SERVER_ADDRESS}:{server.port}/postgres")
            search.orders(seconds=0.1)
            cluster = DaskCluster(search, SERVER_ADDRESS)
            cluster.start("m1")
        with Inside(FAR):
            cluster.start("m2")
        with Inside(NEAR):
            asked = 120 if full else 40
            launcher = launched(search, cluster, asked, "--lease", "60s" if full else "5s")
            wait_until(ready(search, 2), "two workers")
            wait_until(more(search, launcher, 4), "some trials")
            two_hosts("-n", FAR, "link", "set", "pv2", "down")
            before = search.trained()
            threading.Event().wait(seconds)
            assert search.trained() > before, "the near machine goes on"
            two_hosts("-n", FAR, "link", "set", "pv2", "up")
            search.fault()
            wait_until(more(search, launcher, 4), "some trials")
            cluster.kill("m2")
            search.fault()
        with Inside(FAR):
            cluster.start("m2")
        with Inside(NEAR):
            launcher.require(0)
            cluster.end()
            require_equal_results(search)
            what = "cable cut between two machines of a Dask cluster, then one killed"
            figures = search.settle(check, what, asked)
            assert figures.interrupted <= figures.injected
            keep(figures)
    finally:
        server.remove()


@pytest.mark.parametrize("twice", [False, True])
def test_ctrl_c_ends_every_worker_on_the_cluster(
    twice: bool, server: Postgres, search_on: Callable[..., Search], check: Callable[..., Any]
) -> None:
    search = search_on(server.url())
    if twice:
        search.orders(batches=1_000)
    else:
        search.orders(seconds=0.1)
    cluster = DaskCluster(search)
    cluster.start("m1")
    launcher = launched(search, cluster, 200)
    wait_until(
        lambda: search.study() and any(one.number is not None for one in search.ask(leases.running)),
        "a trial",
    )
    launcher.process.send_signal(signal.SIGINT)
    if twice:
        wait_until(lambda: "stopping: " in launcher.said(), "an answer to the first signal")
        launcher.process.send_signal(signal.SIGINT)
    launcher.require(130)
    assert search.ask(workers.of_study) == []
    cluster.end()
    search.settle(check, "Ctrl-C to a launcher of a cluster", 200, done=False)
    states = {row.state for row in search.ask(candidates.candidates)}
    assert (State.CANCELLED in states) == twice and State.LOST not in states
