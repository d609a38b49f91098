"""Trainings side by side, and one alone."""

import threading
from pathlib import Path

import pytest
from network_files import cannot_be_locked, lie_on_nfs

from search.machine.device_lock import DeviceLock


class Waited(Exception):
    pass


def refuse() -> None:
    raise Waited


def test_any_number_are_in_the_room_together(tmp_path: Path) -> None:
    lock = DeviceLock(tmp_path, "cpu")
    with lock.shared(refuse), lock.shared(refuse), lock.shared(refuse):
        pass


def test_one_who_wants_to_be_alone_waits_for_the_others_and_keeps_new_ones_out(tmp_path: Path) -> None:
    lock = DeviceLock(tmp_path / "made", "cpu")
    waits, is_alone, leaves = threading.Event(), threading.Event(), threading.Event()

    def alone() -> None:
        with lock.exclusive(waits.set):
            is_alone.set()
            leaves.wait()

    with lock.shared(refuse):
        thread = threading.Thread(target=alone)
        thread.start()
        waits.wait()
        with pytest.raises(Waited), lock.shared(refuse):
            pass  # the door is closed though somebody is still inside
        assert not is_alone.is_set()
    is_alone.wait()
    for way_in in (lock.shared, lock.exclusive):
        with pytest.raises(Waited), way_in(refuse):
            pass
    leaves.set()
    thread.join()
    with lock.shared(refuse):
        pass


def test_a_room_is_occupied_while_somebody_is_inside(tmp_path: Path) -> None:
    lock = DeviceLock(tmp_path, "0")
    assert not lock.is_occupied()
    with lock.shared(refuse):
        assert lock.is_occupied()
        assert not DeviceLock(tmp_path, "1").is_occupied()
    assert not lock.is_occupied()
    with lock.shared(refuse):  # asking has left it as it was
        pass


def test_devices_have_rooms_of_their_own(tmp_path: Path) -> None:
    with DeviceLock(tmp_path, "0").exclusive(refuse), DeviceLock(tmp_path, "1").exclusive(refuse):
        pass


def test_one_who_wants_to_be_alone_waits_on_a_network_file_system_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lie_on_nfs(monkeypatch)
    lock = DeviceLock(tmp_path, "0")
    with lock.shared(refuse):
        assert lock.is_occupied()
        with pytest.raises(Waited), lock.exclusive(refuse):
            pass


def test_where_no_file_can_be_locked_nobody_is_kept_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cannot_be_locked(monkeypatch)
    lock = DeviceLock(tmp_path, "0")
    with lock.exclusive(refuse), lock.shared(refuse):
        assert not lock.is_occupied()


def test_where_no_file_can_be_made_everyone_has_a_room_to_himself(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    lock = DeviceLock(tmp_path / "file" / "slots", "cpu")
    with lock.exclusive(refuse), lock.shared(refuse):
        pass
