"""A signal that is to end a training or a worker ends it, at whatever moment it is heard."""

import os
import shutil
import signal
import time
from contextlib import suppress
from pathlib import Path

import pytest
from command import fake_training, finish, start
from faults import wait_until
from worker_samples import DATA, make_config, make_study

from search.machine import signals
from search.machine.processes import WORK_DONE
from search.machine.signals import ShutdownRequest, ToldToEnd
from storage import workers
from trainer.data import dataset as datasets
from trainer.data.file_lock import locked


class HearsWhileItGoes:
    """Its last act is to send a signal to this process, whose exception nobody can catch then."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __del__(self) -> None:
        os.kill(os.getpid(), self.number)
        for _ in range(1_000):  # handlers run between two instructions
            pass


@pytest.mark.parametrize(
    ("number", "expected"), [(signal.SIGTERM, SystemExit), (signal.SIGINT, KeyboardInterrupt)]
)
def test_a_signal_heard_while_an_object_is_let_go_is_not_lost(
    number: int, expected: type[BaseException]
) -> None:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(expected) as raised, signals.sigterm_raises():
            HearsWhileItGoes(number)
            time.sleep(60)
    finally:
        signal.signal(signal.SIGINT, before)
    if expected is SystemExit:
        assert raised.value.code == signals.SIGTERM_CODE  # type: ignore[attr-defined]


def test_sigterm_means_afterwards_what_it_meant_before() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit), signals.sigterm_raises():
        signal.raise_signal(signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) is before


def opened_by(pid: int) -> list[Path]:
    """The files that a process has open just now."""
    links = []
    for link in Path("/proc", str(pid), "fd").iterdir():
        with suppress(FileNotFoundError):  # it was closed meanwhile
            links.append(link.readlink())
    return links


@pytest.mark.parametrize(
    ("number", "by_hand", "code"),
    [
        (signal.SIGINT, True, 130),
        (signal.SIGTERM, True, 143),
        (signal.SIGTERM, False, WORK_DONE),
        (signal.SIGUSR1, False, WORK_DONE),
    ],
)
def test_a_worker_that_waits_for_images_ends_where_it_is_told_to(
    number: signal.Signals, by_hand: bool, code: int, sqlite_url: str, tmp_path: Path
) -> None:
    """Another process prepares them and has the lock; neither a Ctrl-C nor a second one was heard before."""
    engine, record = make_study(sqlite_url, make_config(), 3)
    cache = datasets.load(DATA.spec, tmp_path, DATA.image_size).cache
    shutil.rmtree(cache)
    lock = cache.with_name(f"{cache.name}.lock")
    told = ["worker", "--storage", sqlite_url, "--data-dir", tmp_path, "--name", "waits"]
    told += [] if by_hand else ["--parent", os.getpid()]
    with locked(lock):
        process = start(*told, cwd=tmp_path, **fake_training(tmp_path / "training", seconds=0.0))
        wait_until(lambda: lock in opened_by(process.pid), "a worker that waits")
        process.send_signal(number)
        ended = finish(process, timeout=60)
    assert (ended.code, workers.of_study(engine, record.id)) == (code, [])
    assert ended.err.strip().splitlines()[-1].endswith("ends: it was told to")
    assert not cache.exists()
    engine.dispose()


def test_a_worker_is_told_by_exception_until_it_holds_something_alone() -> None:
    shutdown = ShutdownRequest(60.0)
    with shutdown.ends_at_once(), pytest.raises(ToldToEnd):
        shutdown._heard(signal.SIGINT, None)
    shutdown._heard(signal.SIGINT, None)
    assert (shutdown.count, shutdown.code) == (2, 130)
    with pytest.raises(ToldToEnd), shutdown.ends_at_once():
        raise AssertionError("it was heard before")
