"""Which worker's place is closed, and which gets another worker. The workers are shells that end as told."""

import subprocess
from pathlib import Path

import pytest

from search.launcher.worker_pool import MEMORY_SHORT, PoolSlot, WorkerPool
from search.machine.devices import Slot
from search.machine.processes import MADE_ROOM, WORK_DONE

LIVES = "sleep 600"
LEAVES = f"exit {MADE_ROOM}"
DONE = f"exit {WORK_DONE}"
DIES = "exit 1"
HOPELESS = "exit 5"


class Scripted(WorkerPool):
    """Each place has the commands of its workers, one after another."""

    def __init__(self, folder: Path, scripts: dict[str, list[str]], device: str = "0") -> None:
        self.scripts = scripts
        self.asked: list[tuple[str, bool]] = []
        slots = [Slot(name, {"CUDA_VISIBLE_DEVICES": device}) for name in scripts]
        super().__init__(slots, folder, self._asked, lambda _: {}, lambda _: False, "test")

    def _asked(self, worker: str, may_leave: bool) -> list[str]:
        self.asked.append((worker.split("-")[1], may_leave))
        return []

    def _open(self, place: PoolSlot) -> None:
        self.command(place.worker, place.may_leave)
        script = self.scripts[place.slot.name].pop(0)
        with place.log.open("ab") as log:
            place.process = subprocess.Popen(["sh", "-c", script], stdout=log, start_new_session=True)

    def settle(self) -> dict[str, str | None]:
        """Watches until only those that live for ever are left. Returns why places are closed."""
        while any("sleep" not in self._script(place) for place in self.alive):
            for place in self.alive:
                if place.process and "sleep" not in self._script(place):
                    place.process.wait()
            self.watch()
        return {place.slot.name: place.closed for place in self.places}

    @staticmethod
    def _script(place: PoolSlot) -> str:
        assert place.process
        arguments = place.process.args
        assert isinstance(arguments, list)
        return str(arguments[-1])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "logs"


def end(fleet: WorkerPool) -> None:
    for place in fleet.alive:
        assert place.process
        place.process.kill()
        place.process.wait()


def test_a_worker_that_makes_room_is_not_replaced(folder: Path) -> None:
    fleet = Scripted(folder, {"a": [LEAVES], "b": [LIVES]})
    fleet.start()
    assert fleet.settle() == {"a": MEMORY_SHORT, "b": None}
    assert [place.slot.name for place in fleet.alive] == ["b"]
    end(fleet)


def test_of_workers_that_all_want_to_make_room_the_last_stays(folder: Path) -> None:
    """Seen at one look, none of them is a reason for another to go."""
    fleet = Scripted(folder, {"a": [LEAVES, LIVES], "b": [LEAVES, LIVES]})
    fleet.start()
    fleet.settle()
    assert len(fleet.alive) >= 1
    assert (fleet.alive[0].slot.name, False) in fleet.asked  # it is not asked to leave again
    end(fleet)


def test_a_device_of_its_own_is_no_company(folder: Path) -> None:
    fleet = Scripted(folder, {"a": [LEAVES, LIVES], "b": [LIVES]})
    fleet.places[1].slot.environment["CUDA_VISIBLE_DEVICES"] = "1"
    fleet.start()
    assert fleet.settle() == {"a": None, "b": None}
    assert fleet.asked[-1] == ("a", False)
    end(fleet)


@pytest.mark.parametrize("breaks", [[HOPELESS], [DIES, DIES, DIES]])
def test_where_the_one_that_stayed_breaks_a_place_is_opened_again(folder: Path, breaks: list[str]) -> None:
    fleet = Scripted(folder, {"a": [LEAVES, LIVES], "b": ["sleep 0.5; " + breaks[0], *breaks[1:]]})
    fleet.start()
    fleet.places[0].process.wait()  # type: ignore[union-attr]
    fleet.watch()
    assert fleet.places[0].closed == MEMORY_SHORT
    while fleet.places[1].closed is None:
        fleet.watch()
    assert fleet.places[0].closed is None
    assert [place.slot.name for place in fleet.alive] == ["a"]
    end(fleet)


def test_a_child_that_ends_with_0_was_no_worker_of_ours_and_is_shown(folder: Path) -> None:
    """As a file of the working folder does that is run in place of the program."""
    fleet = Scripted(folder, {"a": ["echo hello; exit 0"], "b": [DONE]})
    fleet.start()
    closed = fleet.settle()
    assert closed == {"a": "it ended without having worked: hello (exit code 0)", "b": None}
    assert fleet.alive == []


def test_making_room_is_no_death(folder: Path) -> None:
    """However often the last one wants to."""
    fleet = Scripted(folder, {"a": [LEAVES, LEAVES, LEAVES, LEAVES, LIVES]})
    fleet.start()
    assert fleet.settle() == {"a": None}
    end(fleet)
