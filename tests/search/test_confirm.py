"""The best of a study are trained to the end, and the brief scores are held against the full ones."""

import json
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from command import finish, python, run, start
from comparison_samples import Trial, add_study
from faults import wait_until
from lazily import Lazily
from report_samples import network, trial
from sqlalchemy import Engine
from worker_samples import make_config, make_study

from search.study import config as study_config
from search.study.config import StudyConfig
from search.study.statistics import Correlation, Interval, correlation
from search.training import confirm, contenders
from space import space as spaces
from space.errors import ArchitectureError
from space.random_suggest import RandomSuggest
from space.space import Task
from storage import candidates, database, studies, trainings
from storage.studies import Study
from storage.trainings import Training
from trainer.data import dataset as datasets

stats = Lazily("scipy.stats")


@pytest.mark.thorough  # it trains as search train does (test_train.py); what it chooses is tested below
@pytest.mark.slow
def test_a_study_is_confirmed_and_its_export_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    store = ("--storage", f"sqlite:///{tmp_path / 's.db'}", "--data-dir", tmp_path / "data")
    search = ("launch", "--study", "s", "--trials", 4, "--data", "digits", "--train-images", 200)
    brief = ("--epochs", 1, "--max-params", 5_000, "--pruner", "none", "--workers", 1)
    launched = finish(start(*search, *brief, *store, cwd=tmp_path))
    assert launched.code == 0, launched.err
    full = ("--epochs", 1, "--top", 1, "--seeds", 2, "--rank-sample", 3, "--workers", 2, "--format", "json")
    done = run(capsys, "confirm", "s", *full, *store)
    assert done.code == 0, done.err
    (row,) = json.loads(done.out)
    (best,) = [f for f in (tmp_path / "confirm-s").glob("trial-*") if (f / "seed-1.json").exists()]
    result = json.loads((best / "result.json").read_text())
    assert row["test_accuracy"] == pytest.approx(
        np.mean([seed["test"]["accuracy"] for seed in result["seeds"]])
    )
    others = [json.loads(path.read_text()) for path in (tmp_path / "confirm-s").glob("trial-*/result.json")]
    tested = [seed["test"] is not None for other in others for seed in other["seeds"]]
    assert sorted(tested) == [False, False, True, True], "test images are opened for the best alone"
    assert "it takes four networks" in done.err
    number = int(row["network"].removeprefix("s:"))
    exported = run(capsys, "export", f"s:{number}", "--out", "b.json", *store)
    assert "confirmed: " in exported.err
    document = json.loads((tmp_path / "b.json").read_text())
    assert document["metrics"]["standing"] == "confirmed"
    assert document["confirmation"]["test_accuracy"] == pytest.approx(row["test_accuracy"])
    assert run(capsys, "verify", "b.json").code == 0


def _bootstrapped(one: Sequence[float], other: Sequence[float]) -> list[float]:
    """Kendall's tau of networks that were drawn with replacement, 800 times, by other dice than ours."""
    dice, found = np.random.default_rng(1), list[float]()
    for _ in range(800):
        chosen = dice.integers(len(one), size=len(one))
        tau = stats.kendalltau(np.asarray(one)[chosen], np.asarray(other)[chosen]).statistic
        found += [] if np.isnan(tau) else [tau]
    return found


def test_kendalls_tau_is_that_of_scipy() -> None:
    random = np.random.default_rng(0)
    for count in (4, 12, 30):
        one = list(random.normal(size=count).round(1))
        other = [a + random.normal() for a in one]
        found = correlation(one, other)
        assert found and found.tau == pytest.approx(stats.kendalltau(one, other).statistic)
        assert -1 <= found.interval.low <= found.tau <= found.interval.high <= 1
        drawn = _bootstrapped(one, other)
        assert found.interval == pytest.approx(np.quantile(drawn, (0.025, 0.975)), abs=0.08)
    assert correlation([1, 2, 3], [1, 2, 3]) is None, "three networks say nothing"
    assert correlation([1, 1, 1, 1], [1, 2, 3, 4]) is None


def test_few_networks_in_one_order_are_not_certain_to_be_so() -> None:
    """Every draw of a bootstrap has them in that order: its interval would be a point. Of four networks one
    order in 24 is the same by chance alone, of five one in 120."""
    ends = [correlation(list(range(n)), list(range(n))) for n in (4, 5, 8, 30)]
    assert [found and round(found.interval.low, 2) for found in ends] == [-0.12, 0.20, 0.68, 0.98]
    assert {found and found.interval.high for found in ends} == {1.0}
    reverse = correlation([1, 2, 3, 4], [4, 3, 2, 1])
    assert reverse and reverse.tau == -1 and reverse.interval == pytest.approx((-1.0, 0.116), abs=1e-3)
    level = correlation([1, 1, 2, 2], [3, 3, 4, 4])
    assert level and level.interval.low < -0.9, "as good as two networks"


def test_few_networks_that_agree_are_too_few_and_the_trials_not_too_short() -> None:
    said = confirm.describe_agreement(correlation([1, 2, 3, 4], [1, 2, 3, 4]), 8)
    assert "4 networks say too little of whether trials of 8 epochs order them" in said[1]
    assert "--epochs" not in said[1]


def test_a_low_agreement_asks_for_longer_brief_trainings() -> None:
    low = confirm.describe_agreement(Correlation(0.3, Interval(-0.2, 0.7), 12), 8)
    assert low[0] == "brief and full scores: Kendall's tau 0.30 (95% -0.20 to 0.70, 12 networks)"
    assert "search again with --epochs 16 or more" in low[1]
    assert len(confirm.describe_agreement(Correlation(0.8, Interval(0.5, 0.9), 12), 8)) == 1


def test_a_network_that_is_named_is_not_in_the_rank_sample_too(tmp_path: Path) -> None:
    ranked = [trial(i, accuracy=0.9 - i / 100, fingerprint=network(i).fingerprint) for i in range(4)]
    file = written(tmp_path / "best.json", 3)
    given = replace(flags(tmp_path, file), rank_sample=4)
    chosen = contenders.choose(given, "s", ranked, tmp_path / "out")
    assert [one.reference for one in chosen] == ["s:0", "s:1", "s:3", "s:2"], "the file is of trial 3"
    assert confirm._trained_once(given, chosen) == [f"--also {file}: it is s:3, and trained as that"]


def test_a_dozen_reaches_from_the_best_to_the_worst() -> None:
    rows = list(range(100))
    found = contenders.spaced(rows, 12)
    assert (found[0], found[-1], len(found)) == (0, 99, 12)
    assert {b - a for a, b in pairwise(found)} == {9}
    assert contenders.spaced(rows[:5], 12) == rows[:5]
    assert contenders.spaced(rows, 0) == []


def flags(tmp_path: Path, *also: Path) -> contenders.Flags:
    return contenders.Flags(
        study="s", storage=f"sqlite:///{tmp_path / 's.db'}", data_dir=tmp_path, top=2, seeds=2, epochs=1,
        rank_sample=0, also=tuple(map(str, also)), data=None, out=None, workers=1, gpus="none",
    )  # fmt: skip


def written(path: Path, number: int) -> Path:
    """A file of the network `number`."""
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(network(number).document()))
    return path


def test_every_network_is_trained_in_a_folder_of_its_own(tmp_path: Path) -> None:
    ranked = [trial(0, accuracy=0.9), trial(1, accuracy=0.8)]
    files = [written(tmp_path / name, 5 + i) for i, name in enumerate(("a/best.json", "b/best.json"))]
    files += [written(tmp_path / name, 7 + i) for i, name in enumerate(("trial-1.json", "trial-9.json"))]
    chosen = contenders.choose(flags(tmp_path, *files), "s", ranked, tmp_path / "out")
    folders = [one.folder.name for one in chosen]
    digits = [network(number).fingerprint[:8] for number in (6, 7, 8)]
    assert folders[:3] == ["trial-0", "trial-1", "best"]
    assert folders[3:] == [f"best-{digits[0]}", f"trial-1-{digits[1]}", f"trial-9-{digits[2]}"]


def test_a_network_that_is_named_twice_is_trained_once_and_the_other_name_is_told(tmp_path: Path) -> None:
    ranked = [trial(0, fingerprint=network(0).fingerprint)]
    files = [
        written(tmp_path / name / "best.json", number) for name, number in zip("abc", (0, 1, 1), strict=True)
    ]
    given = flags(tmp_path, *files, files[1])
    chosen = contenders.choose(given, "s", ranked, tmp_path / "out")
    assert [one.reference for one in chosen] == ["s:0", str(files[1])]
    told = confirm._trained_once(given, chosen)
    assert told == [
        f"--also {path}: a network that is confirmed already, and trained once"
        for path in (files[0], files[2])
    ]


def test_a_trial_of_the_study_that_is_named_is_that_trial(sqlite_url: str, tmp_path: Path) -> None:
    """With its brief score, its folder, in which an earlier confirmation may have trained, and its place in
    the agreement of brief and full scores."""
    record = add_study(
        sqlite_url, "night", [Trial(0.9 - i / 100, network=network(i).fingerprint, parameters=100 + i,
                                    architecture=network(i).document()) for i in range(9)],
    )  # fmt: skip
    engine = database.connect(sqlite_url)
    ranked = candidates.candidates(engine, record.id)
    engine.dispose()
    given = replace(flags(tmp_path), study="night", storage=sqlite_url, also=("night:7",), seeds=3)
    (one,) = contenders.choose(given, "night", ranked, tmp_path / "out")[2:]
    assert (one.name, one.number, one.brief, one.seeds) == ("night:7", 7, pytest.approx(0.83), 3)
    assert one.folder == tmp_path / "out" / "trial-7" and not one.sealed
    assert confirm._trained_once(given, [one]) == []


def trained_in(folder: Path, number: int, seeds: int) -> Path:
    """A folder in which so many seeds of the network `number` were trained, as far as is asked of it here."""
    folder.mkdir(parents=True)
    (folder / "training.json").write_text(json.dumps({"architecture": network(number).document()}))
    for seed in range(seeds):
        (folder / f"seed-{seed}.json").write_text("{}")
    return folder


@pytest.mark.parametrize(
    ("older", "own", "taken"),
    [(3, None, "best"), (0, None, "best"), (3, 1, "best"), (3, 3, "trial-3"), (None, None, "trial-3")],
)
def test_a_trial_that_an_older_version_trained_by_the_name_of_also_goes_on_there(
    older: int | None, own: int | None, taken: str, tmp_path: Path
) -> None:
    """Until then each network of --also had a folder by that name, also where it was a trial of the study,
    and some a second one by the rank sample, of a seed without test images."""
    ranked = [trial(i, accuracy=0.9 - i / 100, fingerprint=network(i).fingerprint) for i in range(4)]
    given, out = flags(tmp_path, written(tmp_path / "best.json", 3)), tmp_path / "out"
    for name, seeds in (("best", older), ("trial-3", own)):
        if seeds is not None:
            trained_in(out / name, 3, seeds)
    (one,) = contenders.choose(given, "s", ranked, out)[2:]
    assert (one.name, one.number, one.folder.name) == ("s:3", 3, taken)
    assert one.reference == (given.also[0] if taken == "best" else "s:3"), "what its training.json says"
    assert confirm._trained_once(given, [one]) == [f"--also {given.also[0]}: it is s:3, and trained as that"]


def test_a_folder_of_another_network_by_the_name_of_also_is_left_alone(tmp_path: Path) -> None:
    """Of two files of one name the second had eight digits of its fingerprint, and has them still."""
    ranked = [trial(i, accuracy=0.9 - i / 100, fingerprint=network(i).fingerprint) for i in range(4)]
    files = [
        written(tmp_path / name / "best.json", number) for name, number in zip("abc", (2, 3, 5), strict=True)
    ]
    out, names = tmp_path / "out", [f"best-{network(number).fingerprint[:8]}" for number in (3, 5)]
    trained_in(out / "best", 2, 3)
    trained_in(out / names[0], 3, 3)
    trained_in(out / names[1], 5, 3)
    found = contenders.choose(flags(tmp_path, *files), "s", ranked, out)[2:]
    assert [one.folder.name for one in found] == ["best", *names]
    (out / names[0] / "training.json").write_text("cut short")
    assert contenders.choose(flags(tmp_path, files[1]), "s", ranked, out)[2].folder.name == "trial-3"


def digits_study(url: str, data_dir: Path) -> Study:
    """A study "night" of four small networks for 200 digits, the best first."""
    data = datasets.load("digits", data_dir)
    space = {"task": Task(channels=1, image_size=8, classes=10), "space": spaces.default().for_images(8)}
    config = make_config(max_parameters=5_000).model_copy(
        update=space | {"data": study_config.split_images(data, 200, None, 0)[0]}
    )
    networks = [config.propose(RandomSuggest(number)) for number in range(4)]
    return add_study(
        url, "night", [Trial(0.9 - i / 100, network=one.fingerprint, architecture=one.document())
                              for i, one in enumerate(networks)], config,
    )  # fmt: skip


def test_what_an_older_version_has_trained_and_tested_is_read_and_not_trained_again(
    tmp_path: Path, sqlite_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    record = digits_study(sqlite_url, tmp_path / "data")
    given = replace(flags(tmp_path), study="night", storage=sqlite_url, seeds=1, also=("night:3",))
    given, out = replace(given, data_dir=tmp_path / "data"), tmp_path / "out"
    older = out / "night-3"
    place = ("--storage", sqlite_url, "--device", "cpu")
    trained = run(
        capsys, "train", "night:3", "--like", "night", "--epochs", 1, "--seeds", 1, "--out", older,
        "--data-dir", given.data_dir, *place,
    )  # fmt: skip
    assert trained.code == 0, trained.err
    before = {path.name: path.stat().st_mtime_ns for path in older.glob("seed-0.*")}
    tested = json.loads((older / "result.json").read_text())["seeds"]
    engine = database.connect(sqlite_url)
    ranked = candidates.candidates(engine, record.id)
    engine.dispose()
    (one,) = contenders.choose(given, "night", ranked, out)[2:]
    again = run(capsys, "train", *confirm._work(one, given, "night").arguments, *place)
    assert again.code == 0, again.err
    assert {path.name: path.stat().st_mtime_ns for path in older.glob("seed-0.*")} == before != {}
    assert contenders.read(one).result["seeds"] == tested and tested[0]["test"]
    assert [path.name for path in out.iterdir()] == ["night-3"]


def test_a_network_that_was_among_the_best_keeps_its_seeds_and_tests_in_the_rank_sample(
    tmp_path: Path, sqlite_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Trial 3 was confirmed before better ones were added."""
    record, out = digits_study(sqlite_url, tmp_path / "data"), tmp_path / "out"
    given = replace(flags(tmp_path), study="night", storage=sqlite_url, rank_sample=4)
    given = replace(given, data_dir=tmp_path / "data")
    engine = database.connect(sqlite_url)
    ranked = candidates.candidates(engine, record.id)
    engine.dispose()
    place = ("--storage", sqlite_url, "--device", "cpu")

    def train(one: contenders.Contender) -> None:
        ended = run(capsys, "train", *confirm._work(one, given, "night").arguments, *place)
        assert ended.code == 0, ended.err

    (best, *_) = contenders.choose(replace(given, top=1, seeds=3, rank_sample=0), "night", ranked[3:], out)
    train(best)
    before = json.loads((best.folder / "result.json").read_text())["seeds"]
    assert [seed["seed"] for seed in before if seed["test"]] == [0, 1, 2]
    sample = [one for one in contenders.choose(given, "night", ranked, out) if one.sealed]
    assert [(one.number, one.seeds) for one in sample] == [(2, 1), (3, 3)]
    assert "--no-test" in confirm._work(sample[1], given, "night").arguments
    train(sample[1])
    assert json.loads((best.folder / "result.json").read_text())["seeds"] == before


def test_a_file_that_is_not_there_is_told_before_anything_is_trained(tmp_path: Path) -> None:
    with pytest.raises(ArchitectureError, match=r"absent\.json"):
        contenders.choose(flags(tmp_path, tmp_path / "absent.json"), "s", [trial(0)], tmp_path / "out")


@pytest.fixture
def tested(sqlite_url: str) -> Iterator[tuple[Engine, Study, StudyConfig]]:
    """A store with the study "night", whose trial 0, network 0, was tested in the folder /full."""
    config = make_config()
    engine, record = make_study(sqlite_url, config, 1, name="night")
    row = Training(
        run="r", seed=0, subject="night:0", study="night", trial=0, fingerprint=network(0).fingerprint,
        parameters=1, macs=1, architecture={}, recipe={}, data=config.data.model_dump(mode="json"), epochs=1,
        accuracy=0.5, best_accuracy=0.5, best_epoch=1, loss=1.0, test_accuracy=0.5, test_loss=1.0,
        test_images=9, seconds=1.0, device="cpu", versions={}, folder="/full",
    )  # fmt: skip
    trainings.save(engine, [row])
    yield engine, record, config
    engine.dispose()


def told_of(url: str, config: StudyConfig, study: str, number: int, *also: Path) -> list[str]:
    """What a confirmation of a study whose one trial is the network `number` says of test images."""
    row = trial(0, fingerprint=network(number).fingerprint)
    chosen = contenders.choose(
        replace(flags(Path("/absent"), *also), storage=url), study, [row], Path("/out")
    )
    return confirm._opened_before(url, config.data.digest, chosen)


def test_test_images_that_were_opened_are_told_by_the_network_and_not_by_its_name(
    tested: tuple[Engine, Study, StudyConfig], sqlite_url: str, tmp_path: Path
) -> None:
    engine, record, config = tested
    told = "warning: test images were opened for {} before: /full"
    assert told_of(sqlite_url, config, "night", 0) == [told.format("night:0")]
    studies.rename(engine, record.id, "noon", lambda _: None)
    assert told_of(sqlite_url, config, "noon", 0) == [told.format("noon:0")]
    studies.delete(engine, record.id, lambda _: None)
    assert told_of(sqlite_url, config, "night", 1) == [], "another study of that name, with another network"
    file = written(tmp_path / "net.json", 0)
    assert told_of(sqlite_url, config, "night", 1, file) == [told.format(file)]
    others = config.model_copy(update={"data": config.data.model_copy(update={"digest": "of others"})})
    assert told_of(sqlite_url, others, "noon", 0) == []


PARENT = """
from pathlib import Path
from search.machine import devices
from search.training import parallel
given = ("net.json", "--data", "digits", "--data-dir", "data", "--epochs", "10000", "--out", "out")
work = parallel.TrainingProcess("one", given, Path("log.txt"))
parallel.run([work], devices.slots("none", 1), "sqlite:///s.db", print)
"""


@pytest.mark.slow
def test_trainings_beside_each_other_end_with_the_one_who_started_them(tmp_path: Path, digits: Path) -> None:
    (tmp_path / "net.json").write_text(
        '{"channels": 1, "image_size": 8, "stem": {"width": 4}, "stages": [{"blocks": 1, "width": 4}]}'
    )
    shutil.copytree(digits, tmp_path / "data")
    parent = python("-c", PARENT, cwd=tmp_path)
    log = tmp_path / "log.txt"

    def trains() -> bool:
        return parent.poll() is not None or (log.exists() and "epoch 1/" in log.read_text())

    wait_until(trains, "a first epoch")
    parent.terminate()
    ended = finish(parent)
    assert ended.code == 143, ended.err
    assert "goes on from" in log.read_text(), "it was told to end, and waited for"
