"""A small search of real images that goes on to its finals."""

import json
from pathlib import Path

import pytest
from command import finish, run, start


@pytest.mark.thorough  # faults/test_second_stage.py does it to stand-ins
@pytest.mark.slow
def test_a_search_on_digits_ends_with_a_winner_that_search_train_comes_to_as_well(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    store = ("--storage", f"sqlite:///{tmp_path / 's.db'}", "--data-dir", tmp_path / "data")
    search = ("launch", "--study", "s", "--trials", 3, "--data", "digits", "--train-images", 200)
    brief = ("--epochs", 1, "--max-params", 5_000, "--max-macs", 300_000, "--pruner", "none", "--workers", 1)
    last = ("--finish", "--finalists", 1, "--final-epochs", 2, "--final-seeds", 2, "--out", "best.json")
    launched = finish(start(*search, *brief, *last, *store, cwd=tmp_path))
    assert launched.code == 0, launched.err
    assert "winner of the finals of 2 epochs, trial" in launched.out
    assert "on 359 test images, 2 seeds" in launched.out
    assert "bill: brief" in launched.out
    document = json.loads((tmp_path / "best.json").read_text())
    assert document["metrics"]["standing"] == "confirmed"
    assert document["confirmation"]["test_images"] == 359
    assert run(capsys, "verify", "best.json").code == 0
    number = document["origin"]["trial"]
    finals = json.loads(run(capsys, "trainings", "s", *store[:2], "--format", "json").out)
    mine = {row["seed"]: row for row in finals if row["network"] == f"s:{number}"}
    assert sorted(mine) == [0, 1]

    given = ("--seeds", 1, "--seed", 1, "--epochs", 2, "--out", "again")
    done = finish(start("train", f"s:{number}", *given, *store, cwd=tmp_path))
    assert done.code == 0, done.err
    (result,) = json.loads((tmp_path / "again" / "result.json").read_text())["seeds"]
    for part in ("validation", "test"):  # the same training; lists have ten digits of a number
        assert mine[1][f"{part}_accuracy"] == pytest.approx(result[part]["accuracy"], rel=1e-9)


@pytest.mark.slow
def test_a_search_of_a_space_of_two_networks_ends_confirmed_with_the_networks_that_there_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny.toml").write_text(
        "depth = [2]\nwidth = {low = 8, high = 8}\nbudget_share = {low = 1, high = 1}\n"
        "stem = {width_ratio = [1]}\nstages.2 = {kernel = [3]}\n"
        "stage = {blocks = [1], kernel = [1, 3], width_ratio = [1], stride = [2]}\n"
    )
    store = ("--storage", f"sqlite:///{tmp_path / 's.db'}", "--data-dir", tmp_path / "data")
    search = ("launch", "--study", "s", "--trials", 9, "--data", "digits", "--train-images", 200)
    brief = ("--epochs", 1, "--space", "tiny.toml", "--sampler", "random", "--pruner", "none", "--workers", 1)
    last = ("--finish", "--finalists", 1, "--final-epochs", 2, "--final-seeds", 1, "--out", "best.json")
    launched = finish(start(*search, *brief, *last, *store, cwd=tmp_path))
    assert launched.code == 0, launched.err
    assert "s: 2 of 2 trained" in launched.err
    assert "the space is exhausted: trials ended after 2 of 9" in launched.out
    assert "winner of the finals of 2 epochs, trial" in launched.out
    assert json.loads((tmp_path / "best.json").read_text())["metrics"]["standing"] == "confirmed"
    assert run(capsys, "wait", "s", *store[:2]).code == 0
