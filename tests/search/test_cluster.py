"""`search launch --cluster`: workers on the machines of a Dask cluster, and what is refused."""

import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from command import run
from faults import wait_until
from worker_samples import make_config, make_study

from search.commands import launch_session, on_cluster
from search.launcher import cluster as clusters, cluster_pool, cluster_task, database_room
from search.launcher.cluster import Cluster
from search.launcher.cluster_pool import ClusterPool
from search.launcher.launcher import PlacedBy
from search.machine.devices import Slot
from search.machine.processes import WORK_DONE
from search.study.worker_options import WorkerOptions
from space.errors import ClusterError, UsageError
from storage import connections, workers
from storage.connections import Room
from storage.workers import Doing

distributed = pytest.importorskip("distributed", reason="the extra cluster is not installed")

SECRET = "s3cr3t-of-the-store"
URL = f"postgresql://search:{SECRET}@db/search"
LAUNCH = ("launch", "--trials", 3, "--data", "digits")


@pytest.fixture(scope="module")
def dask() -> Iterator[Any]:
    """Two machines with one CPU each, as threads of this process."""
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=False, protocol="tcp", host="127.0.0.1",
        resources={"CPU": 1}, dashboard_address=":0",
    ) as cluster:  # fmt: skip
        yield cluster


@pytest.fixture
def cluster(dask: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    monkeypatch.setattr(clusters, "SPEAK_SECONDS", 0.05)
    monkeypatch.setattr(cluster_task, "LOOK_SECONDS", 0.05)
    with clusters.connected(dask.scheduler_address) as found:
        assert found.require_offer(lambda _: None) == "CPU"
        yield found


@pytest.fixture
def pool_of(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., ClusterPool]]:
    """A pool whose workers are shells that run a script."""
    monkeypatch.setenv("SEARCH_DATA_DIR", str(tmp_path / "machine"))
    pools = []

    def make(script: str, count: int = 2, **more: Any) -> ClusterPool:
        monkeypatch.setattr(cluster_task, "python_module", lambda *words: ["sh", "-c", script, "sh", *words])
        options = WorkerOptions(storage=URL, data_dir=tmp_path, study="bench")
        slots = cluster_pool.slots(count, "CPU")
        pools.append(
            ClusterPool(cluster, slots, options, tmp_path / "logs", lambda _: False, resource="CPU", **more)
        )
        return pools[-1]

    yield make
    for pool in pools:
        pool.kill()


def watched(pool: ClusterPool, until: Callable[[], object], owed: bool = True) -> None:
    def look() -> object:
        pool.watch(owed)
        return until()

    wait_until(look, "what the pool is watched for", 60)


def test_workers_run_on_the_cluster_until_nothing_is_left(
    pool_of: Callable[..., ClusterPool], tmp_path: Path
) -> None:
    pool = pool_of(f'echo "$@" > {tmp_path}/argv.$$; exit {WORK_DONE}')
    pool.start()
    watched(pool, lambda: not pool.alive)
    assert [slot.codes for slot in pool.slots] == [[WORK_DONE]] * 2
    told = [file.read_text() for file in tmp_path.glob("argv.*")]
    assert len(told) == 2 and all("--study bench" in words for words in told)
    assert all(f"--data-dir {tmp_path}/machine" in words for words in told)


def test_the_password_of_the_store_is_in_the_environment_of_a_worker_alone(
    pool_of: Callable[..., ClusterPool], cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGPASSWORD", f"{SECRET}-too")
    pool = pool_of(
        f'echo "$@" > {tmp_path}/argv; echo "$SEARCH_STORAGE $PGPASSWORD" > {tmp_path}/environment; exit 1', 1
    )
    pool.start()
    process = pool.slots[0].process
    assert isinstance(process, cluster_pool.RemoteWorker)
    assert SECRET not in str(process.future.key)
    watched(pool, lambda: pool.slots[0].codes)
    assert (tmp_path / "environment").read_text().split() == [URL, f"{SECRET}-too"]
    assert SECRET not in (tmp_path / "argv").read_text()


def test_a_task_that_dask_prints_shows_no_password(
    pool_of: Callable[..., ClusterPool], cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGPASSWORD", SECRET)
    given: list[object] = []
    monkeypatch.setattr(cluster.client, "submit", lambda *told, **more: given.extend((told, more)))
    pool = pool_of("exit 0", 1)
    pool.start()
    assert "study='bench'" in repr(given) and SECRET not in repr(given)
    pool.slots[0].process = None


def test_a_worker_that_dies_is_followed_by_another_and_three_close_the_slot(
    pool_of: Callable[..., ClusterPool],
) -> None:
    pool = pool_of("echo out of luck; exit 9", 1)
    pool.start()
    watched(pool, lambda: pool.slots[0].closed)
    assert pool.slots[0].starts == 3
    assert "out of luck (exit code 9)" in pool.troubles[0]


def test_a_machine_without_images_ends_the_launch_only_where_no_machine_has_them(
    pool_of: Callable[..., ClusterPool],
) -> None:
    pool = pool_of("echo search: no such images; exit 5")
    pool.start()
    watched(pool, lambda: not pool.alive)
    assert pool.waiting == []
    assert all("no such images" in (slot.closed or "") for slot in pool.slots)
    pool.slots[0].codes.append(1)  # another machine had them
    assert len(pool.waiting) == 2


def test_a_first_ctrl_c_lets_workers_finish_and_a_second_ends_them(
    pool_of: Callable[..., ClusterPool], tmp_path: Path
) -> None:
    pool = pool_of(
        f"trap 'echo drained >> {tmp_path}/said' TERM; trap 'exit {WORK_DONE}' USR1;"
        f" echo ready >> {tmp_path}/said; while :; do sleep 0.02; done"
    )
    said = tmp_path / "said"
    pool.start()
    watched(pool, lambda: said.exists() and said.read_text().count("ready") == 2)
    pool.signal()
    watched(pool, lambda: said.read_text().count("drained") == 2)
    assert len(pool.alive) == 2
    pool.signal(now=True)
    watched(pool, lambda: not pool.alive)
    assert [slot.codes for slot in pool.slots] == [[WORK_DONE]] * 2


def test_what_hears_no_word_is_killed_in_the_end(
    pool_of: Callable[..., ClusterPool], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster_pool, "SECONDS_TO_END", 0.2)
    monkeypatch.setattr(cluster_pool, "SECONDS_TO_KILL", 60.0)  # it ends long before, on a busy machine too
    pool = pool_of(f"trap '' TERM USR1; echo $$ > {tmp_path}/pid; while :; do sleep 0.02; done", 1)
    pool.start()
    watched(pool, lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text())
    pool.kill()
    assert not pool.alive
    assert pool.slots[0].codes == [-signal.SIGKILL]


def test_workers_of_a_launcher_that_is_gone_finish_their_trial(
    pool_of: Callable[..., ClusterPool], cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = tmp_path / "said"
    pool = pool_of(
        f"trap 'echo drained > {said}; exit {WORK_DONE}' TERM; echo ready > {said};"
        " while :; do sleep 0.02; done",
        1,
    )
    pool.start()
    wait_until(said.exists, "a worker", 60)
    cluster._closing = True  # its thread says nothing any more, as after kill -9
    monkeypatch.setattr(cluster_task, "SILENT_SECONDS", 0.3)  # not before: a busy launcher is silent too
    wait_until(lambda: said.read_text() == "drained\n", "the end of the worker", 60)


class CutOff:
    """A future whose answer lies on a machine that is out of reach until `joined`."""

    status, key = "finished", "search-worker-cut-off"

    def __init__(self) -> None:
        self.joined = threading.Event()

    def result(self, timeout: float | None = None) -> cluster_task.Ended:
        assert timeout is not None and threading.current_thread() is not threading.main_thread()
        if not self.joined.wait(timeout):
            raise TimeoutError
        return cluster_task.Ended("far-worker", WORK_DONE, "all is done", "far")

    def release(self) -> None:
        pass


def test_a_machine_cut_off_with_the_last_word_of_its_worker_holds_up_nobody(
    pool_of: Callable[..., ClusterPool], cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster_pool, "ANSWER_SECONDS", 0.01)  # it is asked time and again
    cut = CutOff()
    monkeypatch.setattr(cluster.client, "submit", lambda *_, **__: cut)
    pool = pool_of("", 1)
    pool.start()
    for _ in range(20):
        pool.watch()
    assert len(pool.alive) == 1 and pool.slots[0].codes == []
    cut.joined.set()
    watched(pool, lambda: not pool.alive)
    assert pool.slots[0].codes == [WORK_DONE] and pool.slots[0].worker == "far-worker"


def test_a_worker_that_ends_at_any_moment_is_known_by_the_name_by_which_it_held_its_trial(
    pool_of: Callable[..., ClusterPool], cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it held is taken back by that name."""
    monkeypatch.setattr(cluster.client, "submit", lambda *_, **__: CutOff())
    pool = pool_of("", 1)
    died: list[str] = []

    def dead(worker: str) -> bool:
        died.append(worker)
        return False

    monkeypatch.setattr(pool, "on_death", dead)
    pool.start()
    process = pool.slots[0].process
    assert isinstance(process, cluster_pool.RemoteWorker)
    ended = cluster_task.Ended("far-worker", 9, "out of luck", "far")
    monkeypatch.setattr(process, "_answer", ended)
    pool._notice()  # what was looked at in between does not matter
    assert died == ["far-worker"]
    assert pool._said(pool.slots[0]) == "far: out of luck"


def test_a_task_that_was_lost_and_cannot_be_placed_again_closes_its_slot_until_it_can(
    pool_of: Callable[..., ClusterPool], cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = pool_of(f"while [ ! -e {tmp_path}/over ]; do sleep 0.02; done; exit {WORK_DONE}", 1)
    pool.start()
    watched(pool, lambda: pool.at_work == 1)
    process = pool.slots[0].process
    assert isinstance(process, cluster_pool.RemoteWorker)

    def lost(*_: object, **__: object) -> None:
        raise OSError("no route to host")

    submit = cluster.client.submit
    monkeypatch.setattr(cluster.client, "submit", lost)
    process.future.cancel()
    watched(pool, lambda: pool.slots[0].closed)
    assert not pool.alive and len(pool.waiting) == 1
    monkeypatch.setattr(cluster.client, "submit", submit)
    (tmp_path / "over").touch()
    monkeypatch.setattr(pool, "clock", lambda: float("inf"))
    watched(pool, lambda: pool.slots[0].codes)
    assert pool.slots[0].codes == [WORK_DONE]
    assert pool.slots[0].starts == 3 and pool.slots[0].closed is None and pool.waiting == []


def test_more_workers_than_places_wait_and_are_taken_back_at_the_end(
    pool_of: Callable[..., ClusterPool], tmp_path: Path
) -> None:
    pool = pool_of(
        f"trap 'exit {WORK_DONE}' TERM; touch {tmp_path}/ready.$$;"  # told to end, a worker does so by itself
        f" while [ ! -e {tmp_path}/over ]; do sleep 0.02; done; exit {WORK_DONE}",
        3,
    )
    pool.start()
    watched(pool, lambda: pool.at_work == 2 and len(list(tmp_path.glob("ready.*"))) == 2)
    assert pool.troubles == ["1 of 3 workers wait for a machine of the cluster"]
    (tmp_path / "over").touch()
    watched(pool, lambda: not pool.alive, owed=False)
    assert [slot.codes for slot in pool.slots] == [[WORK_DONE]] * 3


def test_a_connection_that_is_lost_is_made_again_and_the_workers_placed_again(
    pool_of: Callable[..., ClusterPool], cluster: Cluster, tmp_path: Path
) -> None:
    pool = pool_of(f"while [ ! -e {tmp_path}/over ]; do sleep 0.02; done; exit {WORK_DONE}", 1)
    pool.start()
    watched(pool, lambda: pool.at_work == 1)
    before = cluster.client
    before.close()
    watched(pool, lambda: cluster.client is not before and cluster.is_up and pool.slots[0].starts == 2)
    assert pool.slots[0].closed is None and not pool.slots[0].codes  # no death of a worker's
    (tmp_path / "over").touch()
    watched(pool, lambda: not pool.alive)
    assert pool.slots[0].codes == [WORK_DONE]


def test_a_scheduler_that_stays_away_ends_the_launch(
    pool_of: Callable[..., ClusterPool], cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = pool_of(f"while [ ! -e {tmp_path}/over ]; do sleep 0.02; done", away_seconds=60.0)
    pool.start()
    watched(pool, lambda: pool.at_work == 2)

    def lost() -> None:
        raise OSError("no route to host")

    monkeypatch.setattr(cluster, "speak", lost)
    monkeypatch.setattr(Cluster, "is_up", False)
    watched(pool, lambda: "does not answer: workers there go on" in "".join(pool.troubles))
    assert len(pool.alive) == 2
    pool.away_seconds = 0.0
    watched(pool, lambda: not pool.alive)
    assert all("is out of reach" in (slot.closed or "") for slot in pool.slots)
    assert pool.waiting == []
    (tmp_path / "over").touch()  # these hear no more


def test_a_scheduler_that_stays_away_ends_the_launch_while_a_slot_waits_to_be_tried_again_too(
    pool_of: Callable[..., ClusterPool], monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = pool_of("exit 9", 1)
    pool.start()
    watched(pool, lambda: pool.waiting)
    monkeypatch.setattr(Cluster, "is_up", False)
    monkeypatch.setattr(pool.cluster, "lost_since", 0.0)
    pool.away_seconds = -1.0
    pool.watch()
    assert pool.waiting == [] and "is out of reach" in (pool.slots[0].closed or "")


def test_auto_takes_a_place_more_where_the_cluster_comes_to_offer_one(
    pool_of: Callable[..., ClusterPool],
) -> None:
    pool = pool_of(f"exit {WORK_DONE}", 1, grows=True)
    pool.start()
    watched(pool, lambda: len(pool.slots) == 2 and not pool.alive)
    assert [slot.device.name for slot in pool.slots] == ["dask0", "dask1"]


def test_auto_takes_no_place_for_whose_worker_the_database_has_no_connection(
    pool_of: Callable[..., ClusterPool],
) -> None:
    room, asked = 0, list[object]()

    def left(placed: object) -> int:
        asked.append(placed)
        return room

    pool = pool_of(f"exit {WORK_DONE}", 1, grows=True, room=left)
    pool.start()
    watched(pool, lambda: asked)
    assert asked[0] == [("dask0", f"{pool.token}.1")] and len(pool.slots) == 1
    assert pool.troubles[-1] == "1 place of the cluster not used: the database server has no connections left"
    room = 5
    watched(pool, lambda: len(pool.slots) == 2 and not pool.alive)
    assert pool.troubles == []


def test_workers_that_were_placed_and_have_not_come_need_a_connection_too(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine, record = make_study(sqlite_url, make_config(), trials=2)
    placed = [("dask0", "a1b2c3.1"), ("dask1", "a1b2c3.2"), ("dask2", "a1b2c3.1")]
    assert database_room.for_more(engine, record.id, placed) is None  # a file
    monkeypatch.setattr(connections, "room", lambda _: Room("max_connections = 20", 8, 12, 12))
    assert database_room.for_more(engine, record.id, placed) == 12 - connections.SPARE - 3
    for name in ("far-away-dask0-17-a1b2c3.1", "far-away-dask1-17-a1b2c3.1", "one-by-hand"):
        workers.announce(
            engine, record.id, name, host="far-away", pid=17, state=Doing.WORKING, lease_seconds=60
        )
    assert database_room.for_more(engine, record.id, placed) == 12 - connections.SPARE - 2
    engine.dispose()


def test_auto_starts_on_a_cluster_with_no_more_workers_than_the_database_has_connections_for(
    cluster: Cluster,
    digits: Path,
    sqlite_url: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    found: list[Slot] = []

    def search(*given: Any) -> None:
        found.extend(given[5])
        raise ClusterError("that is all")

    monkeypatch.setattr(on_cluster, "require_possible", lambda *_: None)
    placed = (cluster_pool.slots(200, "CPU"), PlacedBy(cluster, "CPU", grows=True))
    monkeypatch.setattr(on_cluster, "places", lambda *_: nullcontext(placed))
    monkeypatch.setattr(connections, "room", lambda _: Room("max_connections = 20", 8, 12, 12))
    monkeypatch.setattr(launch_session, "_search", search)
    ended = run(capsys, *LAUNCH, "--storage", sqlite_url, "--data-dir", digits, "--cluster", "tcp://a:1")
    assert ended.code == 5 and len(found) == 12 - connections.SPARE
    assert "the database server has connections for no more (max_connections = 20)" in ended.err


def test_a_machine_with_another_version_of_parsimony_is_told_apart(
    pool_of: Callable[..., ClusterPool], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster_pool, "installed_versions", lambda _: {"parsimony": "7.7"})
    pool = pool_of("exit 0", 1)
    pool.start()
    watched(pool, lambda: pool.slots[0].closed)
    assert "the launcher 7.7" in (pool.slots[0].closed or "")
    assert pool.waiting == []  # it does not heal


def test_a_scheduler_with_another_version_of_distributed_is_one_line(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = cluster.client.get_versions()
    found["scheduler"]["packages"]["distributed"] = "1.0"
    monkeypatch.setattr(cluster.client, "get_versions", lambda: found)
    with pytest.raises(ClusterError, match=r"the scheduler at tcp.* runs distributed 1\.0, this launcher"):
        cluster.require_same_version()


def test_a_cluster_that_offers_no_resource_says_how_to_offer_one(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "look", lambda: None)
    monkeypatch.setattr(cluster, "offer", clusters.Offer({"tcp://a:1": {"MEMORY": 1.0}}))
    with pytest.raises(ClusterError, match=r"neither GPU=1 nor CPU=1.*--resources"):
        cluster.require_offer(lambda _: None)


def test_every_machine_counts_where_distributed_tells_of_a_few_unless_it_is_asked_for_all(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before 2026.7 its default are five; here one of two."""
    told = cluster.client.scheduler_info
    monkeypatch.setattr(cluster.client, "scheduler_info", lambda n_workers=1: told(n_workers=n_workers))
    cluster.look()
    assert cluster.offer.slots("CPU") == 2


def test_askedon_cpus_count_as_at_work_beside_gpus_that_nobody_asked_for(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "look", lambda: None)
    monkeypatch.setattr(cluster, "offer", clusters.Offer({"a": {"CPU": 8.0}, "b": {"GPU": 1.0}}))
    monkeypatch.setattr(cluster, "placed", {"a": 8})
    assert cluster.require_offer(lambda _: None, on_cpu=True) == "CPU"
    assert cluster.at_work == 8


@pytest.mark.parametrize(("asked", "count"), [("auto", 0), ("3", 3)])
def test_a_dry_run_asks_a_cluster_that_has_no_machine_for_none(
    asked: str,
    count: int,
    cluster: Cluster,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    started: list[object] = []
    monkeypatch.setattr(cluster, "look", lambda: None)
    monkeypatch.setattr(cluster, "offer", clusters.Offer())
    monkeypatch.setattr(cluster.client, "submit", lambda *what, **_: started.append(what))
    monkeypatch.setattr(clusters, "connected", lambda _: nullcontext(cluster))
    with on_cluster.places("tcp://a:1", asked, "all", dry_run=True) as (slots, _):
        assert len(slots) == count
    assert started == [] and "a launch asks for one" in capsys.readouterr().err


def test_gpus_are_asked_for_where_there_are_any() -> None:
    offer = clusters.Offer({"a": {"CPU": 8.0}, "b": {"GPU": 2.0, "CPU": 1.0}})
    assert offer.resource == "GPU" and offer.slots("GPU") == 2 and offer.slots("CPU") == 9
    assert clusters.Offer().resource is None


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (("--cluster", "scheduler", "--storage", URL), "give the scheduler's address, as tcp://host:8786"),
        (
            ("--cluster", "tcp://a:1", "--storage", "sqlite:///x.db"),
            "a PostgreSQL server, not a file",
        ),
        (
            ("--cluster", "tcp://a:1", "--storage", "postgresql://u@127.0.0.1/d"),
            "do not reach a database",
        ),
        (("--cluster", "tcp://a:1", "--storage", URL, "--workers", 0), "leaves nothing for --cluster"),
        (("--cluster", "tcp://a:1", "--storage", URL, "--gpus", "0,1"), "names GPUs of this machine"),
    ],
)
def test_flags_that_no_cluster_can_follow_are_one_line(
    more: tuple[str, ...], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    refused = run(capsys, *LAUNCH, "--data-dir", tmp_path, *more)
    assert refused.code == 2 and said in refused.one_line and SECRET not in refused.err


@pytest.mark.parametrize(
    ("store", "is_reached"),
    [
        ("postgresql:///search?host=db", True),
        ("postgresql:///search?host=db:5433&host=spare", True),
        ("postgresql://search@localhost,db/search", True),
        ("postgresql://search@localhost/search?hostaddr=10.0.0.5", True),
        ("postgresql:///?service=search", True),  # each machine's own file says where
        ("postgresql:///search", False),
        ("postgresql:///search?host=/run/postgresql", False),
        ("postgresql:///search?host=localhost:5433", False),
        ("postgresql://search@localhost,127.0.0.1/search", False),
        ("postgresql://search@[::1]/search", False),
    ],
)
def test_a_store_is_refused_only_where_machines_of_a_cluster_cannot_reach_it(
    store: str, is_reached: bool
) -> None:
    if is_reached:
        clusters.require_reachable_store(store, "tcp://a:1")
        return
    with pytest.raises(UsageError, match="its machines do not reach a database at"):
        clusters.require_reachable_store(store, "tcp://a:1")
    clusters.require_reachable_store(store, "tcp://127.0.0.1:1")


def test_a_scheduler_that_is_not_there_is_one_line_and_code_5(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clusters, "CONNECT_SECONDS", 0.2)
    refused = run(capsys, *LAUNCH, "--data-dir", tmp_path, "--cluster", "tcp://127.0.0.1:9", "--storage", URL)
    assert refused.code == 5
    assert "cannot reach the Dask scheduler at tcp://127.0.0.1:9" in refused.one_line


def test_without_the_package_it_says_what_brings_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    refused = run(capsys, *LAUNCH, "--data-dir", tmp_path, "--cluster", "tcp://127.0.0.1:9", "--storage", URL)
    assert refused.code == 5
    assert "pip install 'parsimony[cluster]' brings it" in refused.one_line
