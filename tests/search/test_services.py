"""What runs for days beside a database: a dashboard, and workers that follow, as in docker-compose.yml."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from urllib.request import ProxyHandler, build_opener

import pytest
from command import end, fake_training
from comparison_samples import add_study
from postgres_server import NoPostgres, Postgres
from sqlalchemy import update

from search.commands import services
from search.machine.gpu_choice import take_least_held_gpu
from search.study import reader
from storage import database, leases, studies, tables

SMALL = ("--data", "digits", "--epochs", "1", "--max-macs", "200k")


@contextmanager
def started(*arguments: str, url: str, **more: str) -> Iterator[subprocess.Popen[str]]:
    """The command `search`, with its log lines to read."""
    process = subprocess.Popen(
        [sys.executable, "-m", "search", *arguments],
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"SEARCH_STORAGE": url, "CUDA_VISIBLE_DEVICES": ""} | more,
    )
    try:
        yield process
    finally:
        end(process)


def line_with(process: subprocess.Popen[str], words: str) -> str:
    """The next line that holds `words`; fails when the process ends before."""
    assert process.stderr
    return next(line for line in process.stderr if words in line)


@pytest.fixture
def stopped_server() -> Iterator[Postgres]:
    """A server of this test's own, which is not up yet."""
    try:
        server = Postgres()
    except NoPostgres as reason:
        pytest.skip(str(reason))
    yield server
    server.remove()


@pytest.mark.thorough  # test_dashboard.py serves one
def test_the_dashboard_serves_a_database_that_was_never_used(postgres_url: str) -> None:
    with started("dashboard", "--port", "0", url=postgres_url) as dashboard:
        address = line_with(dashboard, "dashboard at").split()[-1]
        opener = build_opener(ProxyHandler({}))  # whatever proxy is set, and whoever asked before
        with opener.open(address) as page:
            assert page.status == 200
        with opener.open(address.replace("dashboard/", "api/studies")) as answer:
            assert json.load(answer)["study_summaries"] == []
    engine = database.connect(postgres_url)
    database.check(engine)
    engine.dispose()


@pytest.mark.thorough  # faults/test_database.py restarts one
@pytest.mark.slow
def test_a_following_worker_waits_for_the_database_and_outlives_its_restart(
    stopped_server: Postgres, tmp_path: Path
) -> None:
    server, data_dir = stopped_server, ("--data-dir", str(tmp_path))
    quick = fake_training(tmp_path / "training", seconds=0.01)
    launch = ("launch", "--trials", "1", "--workers", "0", *SMALL, *data_dir)
    with started("worker", "--follow", *data_dir, url=server.url(), **quick) as worker:
        line_with(worker, "waits: cannot use")
        server.start()
        for name in ("before", "after"):
            with started(*launch, "--study", name, url=server.url(), **quick) as launcher:
                line_with(worker, f"works on {name}")
                line_with(worker, "ends: the study has its number")  # in a study it waits without an end
                assert launcher.wait(600) == 0
            server.stop()
            line_with(worker, "lost the database")
            line_with(worker, "waits: cannot use")
            server.start()
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(600) == 128 + signal.SIGTERM


def test_workers_beside_each_other_take_one_gpu_each_in_turn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    monkeypatch.setenv("PYTORCH_ALLOC_CONF", "")  # a choice of somebody's, which stays
    pinned: list[Mapping[str, str]] = []
    take = partial(take_least_held_gpu, tmp_path, pinned.append)
    with take() as gpu, take() as other:
        assert (gpu, other) == ("0", "1")
        assert pinned == [{"CUDA_VISIBLE_DEVICES": "0"}, {"CUDA_VISIBLE_DEVICES": "1"}]
        with take() as shared:
            assert shared == "0"
    with take() as freed:
        assert freed == "0"


def test_a_worker_that_was_pinned_stays_where_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    monkeypatch.setenv("PYTORCH_ALLOC_CONF", "")
    pinned: list[Mapping[str, str]] = []
    with take_least_held_gpu(tmp_path, pinned.append) as gpu:
        assert gpu is None
    assert pinned == []


def test_resume_takes_a_claim_of_a_dead_worker_for_nobody_at_work(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(services, "WAITING_LOOKS", 1)
    monkeypatch.setattr(services, "LOOK_SECONDS", 0.0)
    record = add_study(sqlite_url, "night", [0.5])
    with reader.open_study(sqlite_url, "night") as view:
        studies.set_trials(view.engine, record.id, 9)
        assert not services.someone_works(view)
        assert isinstance(leases.claim(view.engine, record.id, "one", 60.0), leases.Claim)
        assert services.someone_works(view)
        with database.writing(view.engine) as connection:
            silent = tables.claims.c.renewed_at - 31.0
            connection.execute(update(tables.claims).values(renewed_at=silent))
        assert not services.someone_works(view)
