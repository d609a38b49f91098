"""The published systems on the command line, and the recipes that are looked up there."""

import json
import re
from pathlib import Path

import pytest
from command import ROOT, run
from comparison_samples import add_study

from search.study import network_reference, reader
from space import published
from space.errors import ArchitectureError, StorageError
from trainer.recipe import checks
from trainer.recipe.document import Recipe


def test_the_list_has_every_row_and_marks_the_four_wrong_prints(capsys: pytest.CaptureFixture[str]) -> None:
    rows = json.loads(run(capsys, "published", "--format", "json").out)
    assert [row["name"] for row in rows] == published.names()
    wrong = [row for row in rows if row["misprinted"]]
    assert [row["name"] for row in wrong] == ["000-og-64", "003-final", "003-augmix", "003-optimizer-sgdr"]
    assert all(row["note"].startswith("Printed count is that of") for row in wrong)


def test_the_table_explains_its_marks_and_more_if_asked(capsys: pytest.CaptureFixture[str]) -> None:
    short, long = run(capsys, "published").out, run(capsys, "published", "--notes").out
    assert "000-og-64: Printed count is that of the row below" in short
    assert "001-epochs-100:" not in short
    assert "001-epochs-100: The cosine is still one of 200 epochs" in long


@pytest.mark.parametrize(("name", "count"), [("001-final", "4,697,162"), ("003-final", "4,815,940")])
def test_a_published_network_is_shown_as_a_file_is(
    capsys: pytest.CaptureFixture[str], name: str, count: str
) -> None:
    assert f"{count} parameters" in run(capsys, "show", f"published:{name}").out


def test_an_unknown_published_name_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    result = run(capsys, "show", "published:001-fnal")
    assert result.code == 2
    assert "published:001-fnal: no such network; there are 001-final" in result.one_line


def test_a_network_comes_with_its_recipe(tmp_path: Path) -> None:
    found = network_reference.resolve("published:002-final", "sqlite:///none.db")
    assert found.architecture == published.load("002-final")
    assert found.recipe and (found.recipe.optimizer, found.recipe.batch_size) == ("adam", 400)
    path = tmp_path / "net.json"
    path.write_text(json.dumps(found.architecture.document()))
    again = network_reference.resolve(str(path), "sqlite:///none.db")
    assert (again.name, again.architecture, again.recipe) == ("net", found.architecture, None)
    with pytest.raises(ArchitectureError, match=r"absent\.json: No such file"):
        network_reference.resolve("absent.json", "sqlite:///none.db")


def test_a_study_may_be_called_published(sqlite_url: str) -> None:
    assert not network_reference.is_published("published:7")
    assert network_reference.is_published("published:²")
    with pytest.raises(StorageError):
        network_reference.resolve("published:7", sqlite_url)


@pytest.mark.parametrize("number", ["²", "٣", "-1", "1.0", "9" * 30])
def test_a_trial_has_a_number_of_digits_that_a_database_holds(
    sqlite_url: str, capsys: pytest.CaptureFixture[str], number: str
) -> None:
    """Anything else is a name, and there is no such study."""
    add_study(sqlite_url, "night", [0.5])
    refused = run(capsys, "show", f"night:{number}", "--storage", sqlite_url)
    assert refused.code == 2 and refused.one_line.startswith("search: no study 'night:")
    assert run(capsys, "show", f"night:{'9' * 18}", "--storage", sqlite_url).one_line.startswith(
        f"search: the study has no trial {'9' * 18}; "
    )
    endless = f"night:{'9' * 5_000}"  # more digits than Python reads
    assert reader.split_reference(endless) == (endless, None)


def test_the_schema_that_is_printed_is_the_one_in_the_documents(capsys: pytest.CaptureFixture[str]) -> None:
    printed = run(capsys, "recipe", "schema").out
    assert printed == (ROOT / "docs/recipe.schema.json").read_text(), "run `make docs`"
    assert set(json.loads(printed)["properties"]) == set(Recipe.model_fields)


def test_a_recipe_is_checked_and_told_in_full(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "a.toml"
    path.write_text('optimizer = "adam"\nlearning_rate = 0.1')
    result = run(capsys, "recipe", "check", path)
    assert "warning: learning_rate 0.1 is outside the 1e-05 to 0.01 usual with adam" in result.err
    assert Recipe.model_validate_json(result.out) == Recipe.load(path)
    path.write_text("learning_rate = -1")
    assert (
        "learning_rate: Input should be greater than 0 (found -1)"
        in run(capsys, "recipe", "check", path).one_line
    )


def test_a_published_recipe_is_named_like_a_network() -> None:
    assert network_reference.load_recipe("published:004-final").clip_value == 0.1


def test_the_recipe_of_the_documents_loads(tmp_path: Path) -> None:
    (block,) = re.findall(r"```toml\n(.*?)```", (ROOT / "docs/training.md").read_text(), flags=re.DOTALL)
    path = tmp_path / "recipe.toml"
    path.write_text(block)
    assert checks.of_recipe(Recipe.load(path)) == []
