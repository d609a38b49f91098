"""The comparison of variants: each is what its table says, as wide as the budget lets it be."""

from pathlib import Path

import pytest

from benchmarks import variants
from space import cost
from space.architecture import Architecture
from space.baselines import plain
from space.budget import Budget
from space.space import Task

TASK, BUDGET = Task(channels=1, image_size=14, classes=10), Budget(100_000, 2_000_000)


def made(name: str, blocks: tuple[int, ...] = (1, 1, 1)) -> Architecture:
    found: Architecture = variants.network(TASK, BUDGET, blocks, variants.variants([name])[name])
    return found


def test_the_first_is_the_plain_first_guess() -> None:
    first = next(iter(variants.variants(None)))
    network = made(first)
    assert network == plain(TASK, network.stem.width, (1, 1, 1))
    wider = plain(TASK, network.stem.width + 1, (1, 1, 1))
    assert BUDGET.allows(cost.total(network)) and not BUDGET.allows(cost.total(wider))


@pytest.mark.parametrize("name", variants.variants(None))
def test_every_variant_uses_the_budget_and_differs(name: str) -> None:
    network = made(name)
    assert 0.85 < BUDGET.used(cost.total(network)) <= 1
    assert (network.fingerprint == made("plain").fingerprint) == (name == "plain")


def test_stages_of_another_ratio() -> None:
    network = made("wider")
    first = network.stages[0].width
    assert [stage.width for stage in network.stages] == [first, round(2.5 * first), round(6.25 * first)]


def test_what_is_not_there_or_fits_nothing_is_named() -> None:
    with pytest.raises(SystemExit, match="no variant fast; it has plain"):
        variants.variants(["fast"])
    with pytest.raises(SystemExit, match=r"no network of \[1, 1, 1\] blocks fits"):
        variants.network(TASK, Budget(100, None), (1, 1, 1), {})


def test_a_table_has_the_rows_of_its_own_conditions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A whole run on digits; asked again it trains nothing; other epochs or images are another table."""
    rows = tmp_path / "rows.jsonl"
    words = ["variants", "--rows", str(rows), "--data", "digits", "--data-dir", str(tmp_path / "data")]
    words += ["--train-images", "64", "--max-macs", "100000", "--blocks", "1,1", "--only", "plain,gelu"]
    for epochs, validated, lines in (("1", "64", 2), ("1", "64", 2), ("2", "64", 4), ("2", "32", 6)):
        given = ["--seeds", "1", "--epochs", epochs, "--validation-images", validated]
        monkeypatch.setattr("sys.argv", [*words, *given])
        variants.main()
        assert len(rows.read_text().splitlines()) == lines
        table = capsys.readouterr().out.splitlines()
        assert table[0].startswith("| Variant |")
        assert [line.split(" | ")[0] for line in table[2:]] == ["| plain", "| gelu"]
