"""`search gc` removes what nobody needs any more, and says what."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest
from command import run
from sqlalchemy import Engine
from worker_samples import FakeTraining, make_config, make_context, make_study

from search import settings
from search.machine.signals import ShutdownRequest
from search.optuna_adapter import study as optuna_study
from search.study import cleanup, files
from search.study.worker_options import WorkerOptions
from search.worker import context, trial as worker_trial
from search.worker.callbacks import Cancelled
from search.worker.context import WorkerContext
from storage import candidates, leases, rungs
from storage.leases import Claim
from storage.row_types import Candidate, RungEntry, Stage, State, TrainingMetrics
from storage.studies import Study


def ended(url: str, folder: Path, trained: int, trials: int) -> tuple[Engine, Study, list[Candidate]]:
    """A study with so many trained trials, and one that was cancelled after them."""
    config = make_config()
    engine, record = make_study(url, config, trials)
    with optuna_study.open_study(url, record.name, config) as opened:
        own = make_context(opened, engine, record, FakeTraining(), config, folder)
        for _ in range(trained):
            worker_trial.run(own, take(engine, record))
        if trained < trials:
            own.cancelled = lambda: True
            with pytest.raises(Cancelled):
                worker_trial.run(own, take(engine, record))
    return engine, record, candidates.candidates(engine, record.id)


def take(engine: Engine, record: Study) -> Claim:
    claim = leases.claim(engine, record.id, "one", 60.0)
    assert isinstance(claim, Claim)
    return claim


def fill(url: str, data_dir: Path, record: Study, rows: list[Candidate]) -> Path:
    """A checkpoint and weights of every trial."""
    folder = files.study_folders(data_dir, url, record).kept
    folder.mkdir(parents=True)
    for row in rows:
        (folder / f"{row.number}.safetensors").write_bytes(b"w" * 1_000_000)
        (folder / f"{row.fingerprint}.checkpoint").write_bytes(b"c")
    return folder


def test_the_best_weights_and_what_may_be_gone_on_with_stay(
    sqlite_url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    engine, record, rows = ended(sqlite_url, tmp_path, 4, 6)
    best = {row.number for row in candidates.best(engine, record.id, 2)}
    engine.dispose()
    folder = fill(sqlite_url, tmp_path, record, rows)
    before = sorted(folder.iterdir())
    given = ("--storage", sqlite_url, "--data-dir", str(tmp_path), "--keep-weights", "2")
    looked = run(capsys, "gc", *given, "--dry-run")
    assert looked.out == "bench: 7 files would be removed, 3.0 MB\n"
    assert sorted(folder.iterdir()) == before
    assert run(capsys, "gc", *given).out == "bench: 7 files removed, 3.0 MB\n"
    kept = {f"{number}.safetensors" for number in best} | {f"{rows[-1].fingerprint}.checkpoint"}
    assert {path.name for path in folder.iterdir()} == kept
    assert run(capsys, "gc", *given).out == "nothing to remove\n"


@contextmanager
def a_worker(
    url: str, engine: Engine, record: Study, data_dir: Path, said: int | None, monkeypatch: pytest.MonkeyPatch
) -> Iterator[WorkerContext]:
    """A worker on this machine that is told so many weights; of its context images and training are none."""
    monkeypatch.setattr(context, "open_images_from", lambda *_: SimpleNamespace(dataset=None))
    monkeypatch.setattr(context, "split_images", lambda *_: (make_config().data, None))
    monkeypatch.setattr(context, "make_training_function", lambda *_, **__: ("fake", FakeTraining()))
    told = WorkerOptions(storage=url, data_dir=data_dir, name="one", keep_weights=said)
    with context.open_context(told, engine, record, ShutdownRequest(60.0), lambda _: None) as opened:
        yield opened


def test_the_number_of_weights_that_was_said_last_holds_for_whoever_says_none(
    sqlite_url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    engine, record, rows = ended(sqlite_url, tmp_path, 9, 12)
    fill(sqlite_url, tmp_path, record, rows[:9])
    with a_worker(sqlite_url, engine, record, tmp_path, 8, monkeypatch) as told:
        assert told.files.best == 8
    with a_worker(sqlite_url, engine, record, tmp_path, None, monkeypatch) as silent:
        worker_trial.run(silent, take(engine, record))
    best = {row.number for row in candidates.best(engine, record.id, 8)}
    kept = {silent.files.weights(number) for number in best & set(range(9))}
    assert set(silent.files.folder.glob("*.safetensors")) == kept and len(kept) >= 7
    engine.dispose()
    place = ("--storage", sqlite_url, "--data-dir", str(tmp_path))
    assert run(capsys, "gc", *place).code == 0
    assert set(silent.files.folder.glob("*.safetensors")) == kept
    assert run(capsys, "gc", *place, "--keep-weights", "2").code == 0
    assert len(list(silent.files.folder.glob("*.safetensors"))) <= 2
    assert files.kept_best(silent.files.folder, None) == 8, "what gc is told is for once"


def test_a_worker_marks_the_logs_as_those_of_its_study(
    sqlite_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine, record = make_study(sqlite_url, make_config(), 1)
    with a_worker(sqlite_url, engine, record, tmp_path, None, monkeypatch):
        assert tmp_path / "logs" / "bench" in files.own_folders(tmp_path, sqlite_url, record)
    engine.dispose()


def test_a_number_of_weights_that_cannot_be_read_is_the_default(tmp_path: Path) -> None:
    files.note_best(tmp_path / "kept", None)
    assert not (tmp_path / "kept").exists()
    files.note_best(tmp_path / "kept", 0)
    assert files.kept_best(tmp_path / "kept", None) == 0 and files.kept_best(tmp_path / "kept", 3) == 3
    (tmp_path / "kept" / files.KEEP_WEIGHTS).write_text("many")
    assert files.kept_best(tmp_path / "kept", None) == settings.KEEP_WEIGHTS


def test_the_weights_of_a_trial_that_is_about_to_end_stay(
    sqlite_url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    engine, record, rows = ended(sqlite_url, tmp_path, 2, 4)
    claim = take(engine, record)
    with optuna_study.open_study(sqlite_url, record.name, make_config()) as opened:
        own = make_context(opened, engine, record, FakeTraining(), make_config(), tmp_path)
        _, running, _ = worker_trial.propose_new(own, claim)
    engine.dispose()
    folder = fill(sqlite_url, tmp_path, record, [*rows[:2], running])
    given = ("--storage", sqlite_url, "--data-dir", str(tmp_path), "--keep-weights", "0")
    assert run(capsys, "gc", *given).out == "bench: 4 files removed, 2.0 MB\n"
    assert {path.name for path in folder.iterdir()} == {
        f"{running.number}.safetensors",
        f"{running.fingerprint}.checkpoint",
    }


def test_what_a_worker_writes_at_the_moment_is_not_removed(sqlite_url: str, tmp_path: Path) -> None:
    engine, record, rows = ended(sqlite_url, tmp_path, 2, 4)
    claim = take(engine, record)
    with optuna_study.open_study(sqlite_url, record.name, make_config()) as opened:
        own = make_context(opened, engine, record, FakeTraining(), make_config(), tmp_path)
        _, running, _ = worker_trial.propose_new(own, claim)
    folder = fill(sqlite_url, tmp_path, record, [])
    names = [f"{running.number}.safetensors", f"{running.fingerprint}.checkpoint"]
    written = [folder / f".{name}.0a1b2c3d" for name in (*names, files.KEEP_WEIGHTS)]
    left = [folder / f".{name}.4e5f6a7b" for name in names]  # by one that was killed
    gone = folder / f".{rows[0].fingerprint}.checkpoint.0a1b2c3d"
    for path in (*written, *left, gone):
        path.touch()
    for path in left:
        os.utime(path, (1.0, 1.0))
    assert cleanup.stale(engine, record, folder, 0) == sorted([*left, gone])
    engine.dispose()


def test_a_study_that_is_done_needs_no_checkpoint_and_other_stores_keep_theirs(
    sqlite_url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    engine, record, rows = ended(sqlite_url, tmp_path, 2, 2)
    engine.dispose()
    folder = fill(sqlite_url, tmp_path, record, rows)
    foreign = files.kept_folder(tmp_path) / "0123456789abcdef"
    foreign.mkdir()
    (foreign / "7.safetensors").write_bytes(b"w" * 2_000_000)
    result = run(capsys, "gc", "--storage", sqlite_url, "--data-dir", str(tmp_path))
    assert result.out == "bench: 2 files removed, 0.0 MB\n"
    assert result.err.startswith("1 folder of studies of other stores, or of deleted ones: 2.0 MB in ")
    assert len(list(folder.glob("*.safetensors"))) == 2
    assert (foreign / "7.safetensors").exists()


def test_kept_weights_are_exported_and_missing_ones_are_named(
    sqlite_url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    engine, record, rows = ended(sqlite_url, tmp_path, 2, 2)
    engine.dispose()
    folder = fill(sqlite_url, tmp_path, record, rows)
    (folder / "1.safetensors").unlink()
    given = ("--storage", sqlite_url, "--data-dir", str(tmp_path), "--out", str(tmp_path / "best.json"))
    weights = tmp_path / "best.safetensors"
    assert run(capsys, "export", "bench:0", *given, "--weights", str(weights)).code == 0
    assert weights.stat().st_size == 1_000_000
    missing = run(capsys, "export", "bench:1", *given, "--weights", str(weights))
    assert missing.code == 2
    assert missing.err.startswith("search: no weights of trial bench:1 here, in ")


def test_weights_of_finals_stay_and_of_the_second_stage_what_may_be_gone_on_with(
    sqlite_url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    engine, record, rows = ended(sqlite_url, tmp_path, 2, 2)
    asked = [RungEntry(row.id, stage, 20, 0) for stage in Stage for row in rows]
    rungs.enter(engine, record.id, asked)
    for state in (State.COMPLETED, State.DIVERGED, State.COMPLETED):
        answer = rungs.claim(engine, record.id, "one", 60.0)
        assert isinstance(answer, tuple)
        outcome = TrainingMetrics(0.5, 0.5, 1.0, 20, 1.0, 1.0)
        rungs.finish(engine, answer[0], answer[1].id, state, outcome=outcome)
    trainings = rungs.of_study(engine, record.id)
    folder = files.study_folders(tmp_path, sqlite_url, record).kept
    folder.mkdir(parents=True)
    kept = files.StudyFiles(folder, 0)
    for one in trainings:
        kept.checkpoint(one.key).touch()
        kept.final(one.number, one.epochs, one.seed).touch()
    kept.final(99, 20, 0).touch()
    engine.dispose()
    assert run(capsys, "gc", "--storage", sqlite_url, "--data-dir", tmp_path).code == 0
    finals = {kept.final(row.number, 20, 0) for row in rows}
    assert set(folder.iterdir()) == finals | {kept.checkpoint(trainings[-1].key)}
