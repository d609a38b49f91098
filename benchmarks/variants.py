"""What one change to a plain network is worth, at the same budget: for the weights of space/default.toml.

    python -m benchmarks.variants --rows build/variants.jsonl [--only plain,gelu] [--blocks 1,1,1 2,2,2]
        [--data fashion-mnist] [--seeds 3] [--train-images 12000] [--validation-images 3000] [--image-size 28]
        [--epochs 8] [--max-params 300000] [--max-macs 20000000]

The networks are first guesses as space/baselines.py makes them, each with what benchmarks/variants.toml
says of it, and as wide as the budget then lets it be. Every training is by the brief recipe of the data
set, on one thread, from a seed that depends on the seed's number alone; accuracies are of the
validation images after the last epoch, and test images are not read. Rows are appended as they finish,
seed by seed, and a second call goes on where the first one ended. Prints the table of
benchmarks/recipes.py: differences from the first variant, network by network and seed by seed, with
Student's 95% interval.
"""

import argparse
import json
import os
import tomllib
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is loaded

from benchmarks.prior import SEED, VALIDATION_IMAGES, ground, read
from benchmarks.recipes import key, measured, table

VARIANTS = Path(__file__).with_suffix(".toml")
RATIO = 2.0  # of plain networks


def variants(only: Sequence[str] | None) -> dict[str, dict[str, Any]]:
    """By name, in the order asked for. Raises SystemExit for a name that is none."""
    found = tomllib.loads(VARIANTS.read_text(encoding="utf-8"))
    unknown = [name for name in only or () if name not in found]
    if unknown:
        raise SystemExit(f"{VARIANTS.name} has no variant {unknown[0]}; it has {', '.join(found)}")
    return {name: found[name] for name in only or found}


def network(task: Any, budget: Any, blocks: Sequence[int], variant: dict[str, Any]) -> Any:
    """The widest of these stages that the budget allows. Raises SystemExit where none is."""
    from space import cost
    from space.architecture import Architecture
    from space.baselines import plain

    ratio, first = variant.get("ratio", RATIO), variant.get("first", 1)
    best = None
    for width in range(first, 1_024, first):
        document = plain(task, width, tuple(blocks)).document()
        document["stem"]["width"] = width // first
        for i, stage in enumerate(document["stages"]):
            stage["width"] = first * round(width / first * ratio**i)
        for name, value in variant.items():
            if name not in ("ratio", "first"):
                document[name] = document[name] | value if isinstance(value, dict) else value
        made = Architecture.parse(document)
        if not budget.allows(cost.total(made)):
            break
        best = made
    if best is None:
        raise SystemExit(f"no network of {list(blocks)} blocks fits the budget")
    return best


def run(given: argparse.Namespace) -> None:
    """Trains what has no row yet."""
    import torch

    from trainer.recipe.defaults import brief_recipe

    torch.set_num_threads(1)
    dataset, split, task, budget = ground(given, given.validation_images)
    recipe = brief_recipe(given.data, given.train_images, given.epochs, dataset.image_size)
    done = {key(row) for row in asked(given)}
    given.rows.parent.mkdir(parents=True, exist_ok=True)
    for seed, blocks, (name, variant) in product(
        range(given.seeds), given.blocks, variants(given.only).items()
    ):
        about = {"recipe": name, "network": str(list(blocks)), "seed": seed} | conditions(given)
        if key(about) in done:
            continue
        made = network(task, budget, blocks, variant)
        row = about | measured(made, recipe, dataset, split, SEED + seed, test=False)
        row["architecture"] = made.document()
        with given.rows.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")


def conditions(given: argparse.Namespace) -> dict[str, Any]:
    """What rows of one table have in common."""
    return {
        "data": given.data,
        "epochs": given.epochs,
        "train_images": given.train_images,
        "validation_images": given.validation_images,
        "image_size": given.image_size,
        "max_macs": given.max_macs,
        "max_params": given.max_params,
    }


def asked(given: argparse.Namespace) -> list[dict[str, Any]]:
    """The rows of a call, in the order of its variants."""
    wanted, blocks = conditions(given), {str(list(one)) for one in given.blocks}
    return [
        row
        for name in variants(given.only)
        for row in read(given.rows)
        if row["recipe"] == name
        and row["network"] in blocks
        and row["seed"] < given.seeds
        and {one: row[one] for one in wanted} == wanted
    ]


def _blocks(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(","))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rows", type=Path, required=True)
    parser.add_argument("--only", type=lambda text: text.split(","), help="variants by name, the first first")
    parser.add_argument("--blocks", type=_blocks, nargs="+", default=[(1, 1, 1), (2, 2, 2)])
    parser.add_argument("--data", default="fashion-mnist")
    parser.add_argument("--data-dir", type=Path, default=Path.home() / ".cache" / "parsimony")
    parser.add_argument("--image-size", type=int)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--train-images", type=int, default=12_000)
    parser.add_argument("--validation-images", type=int, default=VALIDATION_IMAGES)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--max-params", type=int, default=300_000)
    parser.add_argument("--max-macs", type=int, default=20_000_000)
    given = parser.parse_args()
    run(given)
    print(table(asked(given), what="Variant"))


if __name__ == "__main__":
    main()
