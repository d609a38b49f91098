"""Which worker's slot is closed, and which gets another worker. The workers are shells that end as told."""

import subprocess
from pathlib import Path

import pytest

from search.launcher.worker_pool import DEATHS_IN_A_ROW, MEMORY_SHORT, RETRIES, PoolSlot, WorkerPool
from search.machine.devices import Slot
from search.machine.processes import MADE_ROOM, WORK_DONE

LIVES = "sleep 600"
LEAVES = f"exit {MADE_ROOM}"
DONE = f"exit {WORK_DONE}"
DIES = "exit 1"
HOPELESS = "exit 5"


class Scripted(WorkerPool):
    """Each slot has the commands of its workers, one after another."""

    def __init__(self, folder: Path, scripts: dict[str, list[str]], device: str = "0") -> None:
        self.scripts = scripts
        self.asked: list[tuple[str, bool]] = []
        slots = [Slot(name, {"CUDA_VISIBLE_DEVICES": device}) for name in scripts]
        self.seconds = 0.0  # what the pool's clock shows
        self.finished = set[str]()  # slots whose workers had finished a trial
        super().__init__(
            slots, folder, self._asked, lambda _: {}, self._had_finished, "test", lambda: self.seconds
        )

    def _had_finished(self, worker: str) -> bool:
        return worker.split("-")[1] in self.finished

    def _asked(self, worker: str, may_leave: bool) -> list[str]:
        self.asked.append((worker.split("-")[1], may_leave))
        return []

    def _open(self, slot: PoolSlot) -> None:
        self.command(slot.worker, slot.may_leave)
        script = self.scripts[slot.device.name].pop(0)
        with slot.log.open("ab") as log:
            slot.process = subprocess.Popen(["sh", "-c", script], stdout=log, start_new_session=True)

    def settle(self) -> dict[str, str | None]:
        """Watches until only those that live for ever are left. Returns why slots are closed."""
        while any("sleep" not in self._script(slot) for slot in self.alive):
            for slot in self.alive:
                if slot.process and "sleep" not in self._script(slot):
                    slot.process.wait()
            self.watch()
        return {slot.device.name: slot.closed for slot in self.slots}

    @staticmethod
    def _script(slot: PoolSlot) -> str:
        assert slot.process
        arguments = slot.process.args
        assert isinstance(arguments, list)
        return str(arguments[-1])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "logs"


def end(pool: WorkerPool) -> None:
    for slot in pool.alive:
        assert slot.process
        slot.process.kill()
        slot.process.wait()


def test_a_worker_that_makes_room_is_not_replaced(folder: Path) -> None:
    pool = Scripted(folder, {"a": [LEAVES], "b": [LIVES]})
    pool.start()
    assert pool.settle() == {"a": MEMORY_SHORT, "b": None}
    assert [slot.device.name for slot in pool.alive] == ["b"]
    end(pool)


def test_of_workers_that_all_want_to_make_room_the_last_stays(folder: Path) -> None:
    """Seen at one look, none of them is a reason for another to go."""
    pool = Scripted(folder, {"a": [LEAVES, LIVES], "b": [LEAVES, LIVES]})
    pool.start()
    pool.settle()
    assert len(pool.alive) >= 1
    assert (pool.alive[0].device.name, False) in pool.asked  # it is not asked to leave again
    end(pool)


def test_a_device_of_its_own_is_no_company(folder: Path) -> None:
    pool = Scripted(folder, {"a": [LEAVES, LIVES], "b": [LIVES]})
    pool.slots[1].device.environment["CUDA_VISIBLE_DEVICES"] = "1"
    pool.start()
    assert pool.settle() == {"a": None, "b": None}
    assert pool.asked[-1] == ("a", False)
    end(pool)


@pytest.mark.parametrize("breaks", [[HOPELESS], [DIES, DIES, DIES]])
def test_where_the_one_that_stayed_breaks_a_place_is_opened_again(folder: Path, breaks: list[str]) -> None:
    pool = Scripted(folder, {"a": [LEAVES, LIVES], "b": ["sleep 0.5; " + breaks[0], *breaks[1:]]})
    pool.start()
    pool.slots[0].process.wait()  # type: ignore[union-attr]
    pool.watch()
    assert pool.slots[0].closed == MEMORY_SHORT
    while pool.slots[1].closed is None:
        pool.watch()
    assert pool.slots[0].closed is None
    assert [slot.device.name for slot in pool.alive] == ["a"]
    end(pool)


def test_a_child_that_ends_with_0_was_no_worker_of_ours_and_is_shown(folder: Path) -> None:
    """As a file of the working folder does that is run in place of the program."""
    pool = Scripted(folder, {"a": ["echo hello; exit 0"], "b": [DONE]})
    pool.start()
    closed = pool.settle()
    assert closed == {"a": "it ended without having worked: hello (exit code 0)", "b": None}
    assert pool.alive == []


def test_a_slot_is_closed_though_its_log_is_gone(folder: Path) -> None:
    pool = Scripted(folder, {"a": [f"rm -r {folder}; {HOPELESS}"]})
    pool.start()
    assert pool.settle() == {"a": "(exit code 5)"}


def test_a_worker_is_started_again_though_the_folder_of_the_logs_is_gone(folder: Path) -> None:
    pool = Scripted(folder, {"a": [f"rm -r {folder}; {DIES}", DONE]})
    pool.start()
    assert pool.settle() == {"a": None}
    assert pool.slots[0].codes == [1, WORK_DONE] and pool.slots[0].log.is_file()


def test_making_room_is_no_death(folder: Path) -> None:
    """However often the last one wants to."""
    pool = Scripted(folder, {"a": [LEAVES, LEAVES, LEAVES, LEAVES, LIVES]})
    pool.start()
    assert pool.settle() == {"a": None}
    end(pool)


def later(pool: Scripted, seconds: float, owed: bool = True) -> str | None:
    """Why the only slot is closed, so many seconds later."""
    pool.seconds += seconds
    pool.watch(owed)
    return pool.settle()["a"]


def test_a_closed_slot_is_tried_again_after_a_minute_and_the_reason_stays_on_the_board(folder: Path) -> None:
    """As of two workers that somebody killed three times: nothing is wrong any more."""
    pool = Scripted(folder, {"a": ["echo out of luck; exit 1", DIES, DIES, LIVES]})
    pool.start()
    assert pool.settle() == {"a": "out of luck (exit code 1)"}
    assert "a closed: out of luck (exit code 1); tried again at " in pool.slots[0].note
    assert later(pool, 59) is not None
    assert not pool.alive
    assert later(pool, 1) is None
    assert len(pool.alive) == 1
    assert pool.slots[0].note == "a was closed: out of luck (exit code 1); tried again"
    end(pool)


def test_what_is_closed_again_is_tried_again_after_five_minutes(folder: Path) -> None:
    pool = Scripted(folder, {"a": [DIES] * 5 + [LIVES]})
    pool.start()
    pool.settle()
    for seconds in (60, 300):
        assert later(pool, seconds) is not None, "one death more closes it"
    assert later(pool, 299) is not None
    assert later(pool, 1) is None
    end(pool)


def test_a_slot_that_nothing_helps_stays_closed_after_an_hour(folder: Path) -> None:
    pool = Scripted(folder, {"a": [DIES] * (DEATHS_IN_A_ROW + RETRIES)})
    pool.start()
    pool.settle()
    for _ in range(RETRIES):
        assert pool.waiting
        assert later(pool, 300) is not None
    assert not pool.waiting
    assert later(pool, 10_000) is not None


def test_a_trial_that_a_slot_finishes_gives_it_all_its_tries_again(folder: Path) -> None:
    pool = Scripted(folder, {"a": [DIES] * 6 + [LIVES]})
    pool.start()
    pool.settle()
    assert later(pool, 60) is not None
    pool.finished.add("a")
    pool.seconds += 300
    pool.watch()  # starts the fifth, which has finished a trial when it dies
    for slot in pool.alive:
        assert slot.process
        slot.process.wait()
    pool.watch()
    assert (pool.slots[0].deaths, pool.slots[0].retries, pool.slots[0].closed) == (1, 0, None)
    end(pool)


@pytest.mark.parametrize("code", [0, 2, 5])
def test_what_cannot_heal_is_not_tried_again(folder: Path, code: int) -> None:
    """Not our worker at all, a wrong flag, and an environment that the worker itself found missing."""
    pool = Scripted(folder, {"a": [f"exit {code}", LIVES]})
    pool.start()
    assert pool.settle()["a"] is not None
    assert later(pool, 10_000) is not None
    assert not pool.waiting


def test_nothing_is_tried_again_once_nothing_is_left_to_train(folder: Path) -> None:
    pool = Scripted(folder, {"a": [DIES, DIES, DIES, LIVES]})
    pool.start()
    pool.settle()
    assert later(pool, 60, owed=False) is not None
    assert later(pool, 0) is None
    end(pool)


def test_a_worker_that_cannot_be_started_is_tried_again(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = Scripted(folder, {"a": [LIVES]})
    real = pool._open

    def full(_: PoolSlot) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pool, "_open", full)
    pool.start()
    assert pool.slots[0].closed == "cannot start a worker: No space left on device"
    monkeypatch.setattr(pool, "_open", real)
    assert later(pool, 60) is None
    end(pool)
