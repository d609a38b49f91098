"""The checks of an exported file, which believe nothing: `search verify`.

Reads the file alone; writes nothing. Parses, counts, rebuilds and runs the network, and loads torch for it.
Called by search/commands/export.py and, for files of other forms, by
search/formats/check.py; the document is search/study/export.py's.
"""

import json
import shlex
from collections.abc import Sequence
from math import isclose
from pathlib import Path
from statistics import fmean
from typing import Any

from pydantic import ValidationError

from search.study.export import FORMAT, Against, Confirmation, Export, LayerRow
from search.study.statistics import LEAST_RUNS, difference, spread, wilson
from search.study.text import counted
from space import cost, parser
from space.architecture import Architecture
from space.budget import Budget, judge
from space.document import first_problem
from space.errors import ArchitectureError, UsageError, VerificationError

# A stranger's file may ask for any network. Up to here it is built and run on two images: 0.4 GB of weights,
# 0.5 GB a map, some seconds of a core. A larger one is built on torch's meta device, which has shapes alone.
RUN = Budget(100_000_000, 20_000_000_000)
LARGEST_MAP = 64 << 20  # values of one layer's output, for one image
MOST_LAYERS = 10_000
SAME = 1e-5  # the largest difference of an accuracy, 0..1, that is still the same


def verify(path: Path) -> tuple[Export, list[str]]:
    """Checks schema, count, budget, fingerprint and a forward pass, in this order.

    Returns the document and one line for each check. Raises VerificationError that names the one that fails,
    UsageError where there is no file.
    """
    given = parser.contents(path, UsageError)
    document = parser.parse(given, "JSON", f"schema: {path}", VerificationError)
    _require_export(document, path)
    try:
        found = Export.model_validate_json(json.dumps(document))
    except ValidationError as error:
        raise VerificationError(f"schema: {first_problem(error, Export)}") from None
    return found, [f"schema: {FORMAT}", *check_export(found), _forward(found)]


def check_export(found: Export) -> list[str]:
    """Count, budget and fingerprint of a document, a line for each.

    Raises VerificationError that names the one that fails, the schema for scores that do not belong together.
    """
    _require_scores(found)
    return [check(found) for check in (_count, _budget, _fingerprint)]


def _require_scores(found: Export) -> None:
    """Raises VerificationError for accuracies that are not those of their intervals, their seeds and the
    lead over the baseline, or can be none.

    Nobody can tell from a file whether an accuracy was reached; this tells one that was edited by itself.
    """
    metrics, images = found.metrics, found.data.validation_images
    accuracy = metrics.validation_accuracy
    wanted = wilson(accuracy, images) if 0 <= accuracy <= 1 <= images else None
    if not wanted or not all(
        isclose(*ends, abs_tol=SAME) for ends in zip(wanted, metrics.interval_95, strict=True)
    ):
        low, high = metrics.interval_95
        raise VerificationError(
            f"schema: metrics: {accuracy:g} is not the accuracy that has the interval {low:g} to {high:g} on"
            f" {images:,} images"
        )
    for name, value in (
        ("validation_score", metrics.validation_score),
        ("best_epoch_accuracy", metrics.best_epoch_accuracy),
    ):
        require_share(value, f"metrics: {name}")
    if found.confirmation:
        _require_confirmation(found.confirmation)
    if found.against:
        _require_against(found.against, accuracy, images)


def require_share(value: float | None, what: str) -> None:
    """Raises VerificationError for what can be no accuracy and no score; None states none."""
    if value is not None and not 0 <= value <= 1:
        raise VerificationError(f"schema: {what}: {value:g} is not between 0 and 1")


def is_same(one: float | None, other: float | None) -> bool:
    """Whether two accuracies are the same, as far as a file keeps them; None is the same as None."""
    return one is other or (one is not None and other is not None and isclose(one, other, abs_tol=SAME))


def _require_confirmation(full: Confirmation) -> None:
    """Raises VerificationError for means and intervals that are not those of the seeds."""
    for name, mean, interval, seeds in (
        ("validation", full.validation_accuracy, full.validation_interval_95, full.validation_by_seed),
        ("test", full.test_accuracy, full.test_interval_95, full.test_by_seed),
    ):
        for value in (mean, *seeds):
            require_share(value, f"confirmation: {name} accuracy")
        if seeds and (mean is None or not is_same(mean, fmean(seeds))):
            raise VerificationError(
                f"schema: confirmation: {mean} is no mean of the {name} accuracies of its seeds"
            )
        if mean is not None and full.validation_by_seed and not seeds:
            raise VerificationError(f"schema: confirmation: the {name} accuracies of its seeds are left out")
        _require_interval(name, mean, interval, seeds)
    counts = len(full.validation_by_seed), len(full.test_by_seed)
    if full.validation_by_seed and (counts[0] != full.seeds or counts[1] > full.seeds):
        raise VerificationError(
            f"schema: confirmation: it says {counted(full.seeds, 'seed')} and has the validation accuracies"
            f" of {counts[0]} and the test accuracies of {counts[1]}"
        )


def _require_interval(
    name: str, mean: float | None, stated: tuple[float, float] | None, seeds: Sequence[float]
) -> None:
    """Raises VerificationError for an interval of a mean that is not that of its seeds; where these are few,
    or not written down, for one without the mean in it."""
    if stated is None:
        is_right = len(seeds) < LEAST_RUNS or spread(seeds).interval is None
    elif len(seeds) >= LEAST_RUNS:  # equal ones have none, or a point
        is_right = all(map(is_same, stated, spread(seeds).interval or (seeds[0],) * 2))
    else:
        is_right = mean is not None and 0 <= stated[0] <= mean + SAME and mean - SAME <= stated[1] <= 1
    if not is_right:
        said = "none" if stated is None else f"{stated[0]:g} to {stated[1]:g}"
        raise VerificationError(
            f"schema: confirmation: the {name} accuracies of its seeds do not have the interval {said}"
        )


def _require_against(against: Against, accuracy: float, images: int) -> None:
    """Raises VerificationError for a lead over the baseline that is not the one of both accuracies."""
    require_share(against.validation_accuracy, "against: validation_accuracy")
    wanted = difference(accuracy, against.validation_accuracy, images)
    if not all(map(is_same, (against.ahead, *against.ahead_interval_95), wanted)):
        low, high = against.ahead_interval_95
        raise VerificationError(
            f"schema: against: {against.ahead:g}, {low:g} to {high:g}, is not by how much {accuracy:g} is"
            f" ahead of {against.validation_accuracy:g} on {images:,} images"
        )


def _require_export(document: Any, path: Path) -> None:
    """Tells a network by itself, which states nothing that could be wrong, from a file that was exported."""
    if isinstance(document, dict) and "stages" in document and "architecture" not in document:
        raise VerificationError(
            f"schema: {path} is an architecture file, which states no figures to verify;"
            f" `search show {shlex.quote(str(path))}` counts it, and `search export` writes what is verified"
        )


def _count(found: Export) -> str:
    spent = cost.total(found.architecture)
    rows = tuple(LayerRow(**row._asdict()) for row in cost.layers(found.architecture))
    stated = (found.parameters, found.macs)
    if stated != spent:
        raise VerificationError(
            f"count: the file says {stated[0]:,} parameters and {stated[1]:,} multiply-accumulates,"
            f" its architecture has {spent.parameters:,} and {spent.macs:,}"
        )
    if rows != found.layers:
        raise VerificationError("count: the layer table is not that of the architecture")
    return f"count: {spent.parameters:,} parameters, {spent.macs:,} multiply-accumulates"


def _budget(found: Export) -> str:
    verdict = judge(found.architecture, found.budget)
    if verdict.excess:
        raise VerificationError(f"budget: {verdict.excess}")
    return f"budget: within {found.budget}"


def _fingerprint(found: Export) -> str:
    if found.architecture.fingerprint != found.fingerprint:
        raise VerificationError(
            f"fingerprint: the file says {found.fingerprint},"
            f" its architecture has {found.architecture.fingerprint}"
        )
    return f"fingerprint: {found.fingerprint}"


def _forward(found: Export) -> str:
    architecture = found.architecture
    if len(found.layers) > MOST_LAYERS:
        many = f"{len(found.layers):,} layers are more than the {MOST_LAYERS:,} that are built here"
        return f"forward pass: left out, {many}"
    try:
        built, shape = shapes(architecture)
        if built != found.parameters:
            raise VerificationError(f"forward pass: the built network has {built:,} parameters")
        if shape != (2, architecture.classes):
            raise VerificationError(f"forward pass: the output has shape {shape}")
        excess = excess_of(found)
        if not excess:
            run(architecture)
    except (RuntimeError, ArchitectureError, MemoryError) as error:
        raise VerificationError(f"forward pass: {parser.one_line(error)}") from None
    done = f"2 images in, scores of {architecture.classes} classes out, {built:,} parameters built"
    return f"forward pass: {done}" + (f"; of shapes alone, not of values: {excess}" if excess else "")


def excess_of(found: Export) -> str | None:
    """Why a network is not run on values, in words; None for one that is."""
    if over := judge(found.architecture, RUN).excess:
        return over
    largest = max(row.channels * row.size**2 for row in found.layers)
    return f"a map of {largest:,} values, {LARGEST_MAP:,} at most" if largest > LARGEST_MAP else None


def shapes(architecture: Architecture) -> tuple[int, tuple[int, ...]]:
    """Builds the network without values and runs two images through it: parameters, shape of the output.

    It takes no memory to speak of, however large the network. Raises what torch does where none can be built.
    """
    import torch

    from trainer import model

    side = architecture.image_size
    with torch.device("meta"), torch.inference_mode():
        network = model.build(architecture).eval()
        scores = network(torch.empty(2, architecture.channels, side, side))
    return model.count(network), tuple(scores.shape)


def run(architecture: Architecture) -> None:
    """Builds the network with values and runs two images of noise through it.

    Raises VerificationError for an output that is not finite, and what torch raises where there is no memory.
    """
    import torch

    from trainer import model

    network = model.build(architecture).eval()
    side = architecture.image_size
    with torch.inference_mode():
        scores = network(torch.randn(2, architecture.channels, side, side))
    if not bool(torch.isfinite(scores).all()):
        raise VerificationError("forward pass: the output is not finite")
