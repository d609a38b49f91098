"""PostgreSQL is killed, frozen, cut off, overcrowded or too slow in the middle of a search."""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psycopg
import pytest
from fault_proxy import Proxy
from faults import Figures, Search, require_equal_results, wait_until
from postgres_server import NoPostgres, Postgres
from two_hosts import FAR, NEAR, SERVER_ADDRESS, Inside, trust

from storage import candidates
from storage.row_types import State

pytestmark = pytest.mark.faults

OURS = "pid <> pg_backend_pid() AND backend_type = 'client backend'"


@pytest.fixture
def proxy(server: Postgres) -> Iterator[Proxy]:
    cable = Proxy(server.port).start()
    yield cable
    cable.close()


def more(search: Search, trials: int = 3) -> Callable[[], bool]:
    """Whether so many more trials than now have been trained."""
    start = search.trained()
    return lambda: search.trained() >= start + trials


def either(*conditions: Callable[[], bool]) -> Callable[[], bool]:
    return lambda: any(condition() for condition in conditions)


def hold(seconds: float) -> None:
    """A fault's own length."""
    threading.Event().wait(seconds)


def survive(
    search: Search,
    fault: Callable[[], None],
    times: int,
    fill: int,
    *flags: object,
    workers: int = 2,
    seconds: float = 0.1,
) -> int:
    """Does it to a search, after some trials each time, and lets the search end. Returns the number asked.

    Each worker may finish a trial more before this process, on a busy machine, sees that there were enough.
    A batch takes `seconds` until the last fault is over, so that there are trials left for that.
    """
    asked = times * (fill + workers) + 2 * fill
    search.orders(seconds=seconds)
    launcher = search.launch(asked, *flags, workers=workers)
    for _ in range(times):
        wait_until(either(launcher.ended, more(search, fill)), "some trials")
        if launcher.ended():
            break
        fault()
        search.fault()
    search.orders(seconds=0.005)  # the faults are over: let the rest be quick
    launcher.require(0)
    assert search.injected >= times / 2, f"the search ended after {search.injected} of {times} faults"
    require_equal_results(search)
    return asked


@pytest.mark.thorough  # the path of one that stays away, ended sooner
def test_a_server_killed_and_started_again_costs_nothing(
    server: Postgres,
    search_on: Callable[..., Search],
    check: Callable[..., Any],
    keep: Callable[[Figures], None],
    full: bool,
) -> None:
    def kill() -> None:
        server.kill()
        hold(5 if full else 2)
        server.start()

    search = search_on(server.url())
    asked = survive(search, kill, 5 if full else 1, 5)
    keep(search.settle(check, "PostgreSQL killed (-9) and started again", asked))


@pytest.mark.thorough
def test_a_frozen_server_costs_nothing(
    server: Postgres,
    search_on: Callable[..., Search],
    check: Callable[..., Any],
    keep: Callable[[Figures], None],
    full: bool,
) -> None:
    seconds = 30 if full else 8

    def freeze() -> None:
        server.freeze()
        hold(seconds)
        server.thaw()

    search = search_on(server.url())
    asked = survive(search, freeze, 2 if full else 1, 6)
    keep(search.settle(check, "PostgreSQL frozen (SIGSTOP)" + (" for 30 s" if full else ""), asked))
    assert search.interrupted() == 0


@pytest.mark.thorough
def test_a_server_frozen_for_longer_than_a_lease_takes_no_trial_away(
    server: Postgres,
    search_on: Callable[..., Search],
    check: Callable[..., Any],
    keep: Callable[[Figures], None],
    full: bool,
) -> None:
    """By its clock every lease has run out when it wakes; nobody is reaped before he could be heard."""
    seconds = 60 if full else 15

    def freeze() -> None:
        server.freeze()
        hold(seconds)
        server.thaw()

    search = search_on(server.url())
    lease = ("--lease", "20s" if full else "5s")
    asked = survive(search, freeze, 1, 2, *lease, seconds=0.3)
    keep(search.settle(check, "PostgreSQL frozen for three times the lease", asked))
    assert search.interrupted() == 0


@pytest.mark.thorough
def test_connections_that_are_terminated_are_made_again(
    server: Postgres,
    search_on: Callable[..., Search],
    check: Callable[..., Any],
    keep: Callable[[Figures], None],
    full: bool,
) -> None:
    def terminate() -> None:
        with psycopg.connect(server.url(), autocommit=True) as connection:
            connection.execute(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {OURS}")

    search = search_on(server.url())
    asked = survive(search, terminate, 50 if full else 8, 1, seconds=0.03)
    keep(search.settle(check, "all connections terminated, again and again", asked))


@pytest.mark.thorough
def test_a_cut_cable_costs_nothing(
    server: Postgres,
    proxy: Proxy,
    search_on: Callable[..., Search],
    check: Callable[..., Any],
    keep: Callable[[Figures], None],
    full: bool,
) -> None:
    """Bytes stop, nobody is told; then every connection breaks at once."""
    seconds = 20 if full else 6

    def cut() -> None:
        proxy.cut()
        hold(seconds)
        proxy.join()
        proxy.tear()

    search = search_on(f"postgresql://postgres@127.0.0.1:{proxy.port}/postgres")
    asked = survive(search, cut, 3 if full else 1, 5)
    keep(search.settle(check, "the port cut, then every connection broken", asked))


@pytest.mark.thorough
def test_a_cable_cut_between_two_hosts_costs_nothing(
    two_hosts: Callable[..., None],
    search_on: Callable[..., Search],
    check: Callable[..., Any],
    keep: Callable[[Figures], None],
    full: bool,
) -> None:
    """Packets are lost without a word, as with a cable pulled between machines."""
    try:
        server = Postgres(listen_addresses="*")
    except NoPostgres as reason:
        pytest.skip(str(reason))
    try:
        with Inside(NEAR):
            server.start()
        trust(server)
        with Inside(FAR):
            search = search_on(f"postgresql://postgres@{SERVER_ADDRESS}:{server.port}/postgres")

            def cut() -> None:
                two_hosts("-n", FAR, "link", "set", "pv2", "down")
                hold(30 if full else 8)
                two_hosts("-n", FAR, "link", "set", "pv2", "up")

            asked = survive(search, cut, 2 if full else 1, 5)
            keep(search.settle(check, "cable cut between two network namespaces", asked))
    finally:
        server.remove()


@pytest.mark.thorough
def test_a_server_with_too_many_connections_is_waited_for(
    search_on: Callable[..., Search], check: Callable[..., Any], keep: Callable[[Figures], None], full: bool
) -> None:
    """Others hold every connection there is; workers that start then wait instead of giving up."""
    try:
        server = Postgres(max_connections=14, superuser_reserved_connections=0, reserved_connections=0)
    except NoPostgres as reason:
        pytest.skip(str(reason))
    try:
        server.start()
        search = search_on(server.url())
        search.orders(seconds=0.1)  # so that there are trials left for the last fault
        asked = 40 if full else 16
        launcher = search.launch(asked, workers=3)
        for _ in range(4 if full else 1):
            wait_until(more(search), "some trials")
            taken = occupy(server)
            victim = launcher.children()[0]
            os.kill(victim, signal.SIGKILL)
            wait_until(lambda victim=victim: is_dead(victim), "its death")  # its launcher may wait too
            hold(6)
            for connection in taken:
                connection.close()
            search.fault()
        search.orders(seconds=0.005)
        launcher.require(0)
        keep(search.settle(check, "too many connections, with a worker killed meanwhile", asked))
        assert "was closed" not in launcher.said()
    finally:
        server.remove()


def is_dead(pid: int) -> bool:
    """Gone, or a zombie that its parent has yet to see."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except OSError:
        return True


def occupy(server: Postgres) -> list[psycopg.Connection[Any]]:
    """Takes connections until there are no more."""
    taken: list[psycopg.Connection[Any]] = []
    with suppress(psycopg.OperationalError):
        while True:
            taken.append(psycopg.connect(server.url(), autocommit=True))
            taken[-1].execute(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {OURS} "
                              "AND application_name = 'parsimony'")  # fmt: skip
    return taken


@pytest.mark.thorough
def test_statements_that_time_out_are_tried_again(
    server: Postgres,
    search_on: Callable[..., Search],
    check: Callable[..., Any],
    keep: Callable[[Figures], None],
    full: bool,
) -> None:
    """Somebody holds a lock on the candidates for longer than a statement may take."""
    search = search_on(f"{server.url()}?options=-c%20statement_timeout%3D1000%20-c%20lock_timeout%3D500")

    def block() -> None:
        with psycopg.connect(server.url()) as connection:
            connection.execute("LOCK TABLE search_candidates, trials IN ACCESS EXCLUSIVE MODE")
            hold(6)

    asked = survive(search, block, 4 if full else 1, 5)
    keep(search.settle(check, "tables locked for longer than a statement may take", asked))


def test_a_server_that_stays_away_ends_the_search_with_its_spool_kept(
    server: Postgres,
    search_on: Callable[..., Search],
    check: Callable[..., Any],
    keep: Callable[[Figures], None],
) -> None:
    """Longer than the timeout: code 5 and one line; the next launch takes in what was owed."""
    search = search_on(server.url())
    search.orders(seconds=0.2)
    launcher = search.launch(8, "--database-timeout", "3s")
    wait_until(lambda: search.trained() > 1 and search.training(), "some trials")
    server.stop()
    assert launcher.code() == 5, launcher.said()
    assert "Traceback" not in launcher.said()
    assert "was away for 3 s" in launcher.said()
    wait_until(lambda: not search.processes(), "the end of the workers")
    owed = list((search.place / "data").glob("spool/*/*.json"))
    assert owed, "what was trained meanwhile is kept"
    server.start()
    search.fault()
    search.launch(8).require(0)
    figures = search.settle(check, "PostgreSQL away for longer than the timeout", 8)
    states = [row.state for row in search.ask(candidates.candidates)]
    assert states.count(State.COMPLETED) == 8
    keep(figures)


@pytest.mark.thorough
def test_a_second_ctrl_c_ends_without_the_database(
    server: Postgres, search_on: Callable[..., Search], check: Callable[..., Any]
) -> None:
    search = search_on(server.url())
    launcher = search.launch(50, "--lease", "10s")  # what could not be said to the database waits for its end
    wait_until(lambda: search.trained() > 1, "some trials")
    server.stop()
    launcher.process.send_signal(signal.SIGINT)
    wait_until(lambda: "stopping: " in launcher.said(), "an answer to the first signal")
    launcher.process.send_signal(signal.SIGINT)
    assert launcher.code() == 130, launcher.said()
    assert "Traceback" not in launcher.said()
    assert search.processes() == []
    server.start()
    asked = search.trained() + 4
    search.launch(asked).require(0)
    search.settle(check, "", asked)


def test_commands_say_in_one_line_that_the_database_is_away(
    server: Postgres, search_on: Callable[..., Search], check: Callable[..., Any]
) -> None:
    server.stop()
    search = search_on(server.url())
    started = [search.launch(4), search.worker(), search.start("status"), search.start("db", "check")]
    for command in started:
        command.require(5)
        assert len(command.said().strip().splitlines()) == 1, command.said()
