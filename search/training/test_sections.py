"""What test images say of a training, as parts of its page: each class, the confusion matrix, the pairs that
are mixed up most with pictures of them, and how far the network's confidence is right.

Reads test results in memory, and of the test images those that it shows; returns HTML. Called by
search/training/report.py. Sources: E. B. Wilson (1927) for intervals; for calibration M. P. Naeini, G. Cooper
and M. Hauskrecht, Obtaining well calibrated probabilities using Bayesian binning (AAAI 2015), and C. Guo and
others, On calibration of modern neural networks (ICML 2017).
"""

from collections.abc import Sequence
from html import escape
from statistics import fmean

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray

from search.report.parts import BLUE, COLOURS, GREY, panel, paragraph, section, table
from search.report.pictures import drawn, first_alone, image
from search.study.statistics import wilson
from search.study.text import counted, percent
from search.training.test_set import TestResult

SHOWN = 120  # classes of a confusion matrix: of more, those that are mixed up most
PLOTTED = 200  # classes of the plot by class
WORST = 12  # pairs in the list
PICTURES = 4  # of a pair
LARGEST = 96  # pixels a side of a picture on the page
ROW, LEAST_HEIGHT = 19, 180  # pixels of a class in the plot by class, and of the whole plot
CALIBRATION_HEIGHT = 400

Matrix = NDArray[np.int64]


def sections(
    classes: Sequence[str], tests: Sequence[TestResult], images: NDArray[np.uint8] | None
) -> list[str]:
    """Of at least one test result. images: the test images (N, H, W, C) uint8; without them no pictures."""
    matrix = np.sum([test.confusion for test in tests], axis=0)
    return [
        section("classes", "Classes", _classes(classes, matrix, tests)),
        section("confusion", "Who is taken for whom", _confusion(classes, matrix, tests, images)),
        *([section("calibration", "Confidence", _calibration(tests))] if tests[0].calibration else []),
    ]


def _all_seeds(tests: Sequence[TestResult]) -> str:
    return f"{counted(len(tests), 'seed')} together" if len(tests) > 1 else f"seed {tests[0].seed}"


def _classes(classes: Sequence[str], matrix: Matrix, tests: Sequence[TestResult]) -> list[str]:
    """Accuracy of each class with its interval, as a plot and as a table."""
    totals = matrix.sum(1)
    known = [i for i in range(len(classes)) if totals[i]]
    share = {i: float(matrix[i, i] / totals[i]) for i in known}
    order = sorted(known, key=lambda i: share[i])
    over = f"the mean over {counted(len(tests), 'seed')}" if len(tests) > 1 else f"seed {tests[0].seed}"
    reading = (
        f"Share of each class's test images that was recognised, {over}, with the 95% interval that so few"
        " images leave (Wilson); classes below the line are recognised less often than the others"
    )
    drawn = []
    if len(order) <= PLOTTED:
        figure = _by_class(classes, order, share, totals // len(tests), tests)
        height = max(LEAST_HEIGHT, ROW * len(order) + 70)
        drawn = [panel("", f"{reading}.", figure, height)]
    images = totals // len(tests)
    rows = [
        (classes[i], f"{images[i]:,}", percent(share[i]), wilson(share[i], int(images[i])),
         _taken_for(classes, matrix[i], i))
        for i in order
    ]  # fmt: skip
    head = ("class", "test images", "recognised", "95% interval", "else mostly taken for")
    listed = table(head, rows, text=("else mostly taken for",))
    opened = "" if drawn else " open"
    return [
        *drawn,
        f"<details{opened}><summary>Counts and intervals, class by class</summary>{listed}</details>",
        *_untested(classes, totals),
    ]


def _untested(classes: Sequence[str], totals: Matrix) -> list[str]:
    without = [name for name, total in zip(classes, totals, strict=True) if not total]
    return [paragraph(f"without a test image: {', '.join(without)}", note=True)] if without else []


def _taken_for(classes: Sequence[str], row: Matrix, label: int) -> str:
    others = row.copy()
    others[label] = 0
    worst = int(others.argmax())
    return f"{classes[worst]} ({100 * others[worst] / row.sum():.1f}%)" if others[worst] else "-"


def _by_class(
    classes: Sequence[str], order: Sequence[int], share: dict[int, float], images: Matrix,
    tests: Sequence[TestResult],
) -> go.Figure:  # fmt: skip
    found = [wilson(share[i], int(images[i])) for i in order]
    x = [100 * share[i] for i in order]
    figure = go.Figure()
    for test, colour in zip(tests if len(tests) > 1 else (), COLOURS, strict=False):
        each = [test.by_class[i] for i in order]
        figure.add_scatter(
            x=[None if one is None else round(100 * one, 2) for one in each], y=list(range(len(order))),
            mode="markers", marker={"color": colour, "size": 5, "opacity": 0.6}, name=f"seed {test.seed}",
            text=[_label(classes[i]) for i in order], hovertemplate="%{text}: %{x:.1f}%<extra></extra>",
        )  # fmt: skip
    figure.add_scatter(
        x=[round(one, 2) for one in x], y=list(range(len(order))), mode="markers", name="mean and 95%",
        marker={"color": BLUE, "size": 8}, showlegend=len(tests) > 1,
        error_x={
            "type": "data", "symmetric": False, "color": BLUE, "thickness": 1.2, "width": 3,
            "array": [round(100 * one.high - at, 2) for one, at in zip(found, x, strict=True)],
            "arrayminus": [round(at - 100 * one.low, 2) for one, at in zip(found, x, strict=True)],
        },
        text=[_label(classes[i]) for i in order], customdata=[int(images[i]) for i in order],
        hovertemplate="%{text}: %{x:.1f}% of %{customdata} images<extra></extra>",
    )  # fmt: skip
    mean = fmean(test.accuracy for test in tests)
    figure.add_vline(x=100 * mean, line={"color": GREY, "dash": "dot", "width": 1.5})
    figure.update_yaxes(
        tickvals=list(range(len(order))), ticktext=[_label(_short(classes[i])) for i in order],
        range=[-0.7, len(order) - 0.3], tickfont={"size": 11},
    )  # fmt: skip
    return figure.update_xaxes(title="recognised, %")


def _label(name: str) -> str:
    """A name in a figure, whose texts Plotly reads as HTML."""
    return escape(name, quote=False)


def _short(name: str, most: int = 22) -> str:
    return name if len(name) <= most else f"{name[: most - 1]}…"


def _confusion(
    classes: Sequence[str], matrix: Matrix, tests: Sequence[TestResult], images: NDArray[np.uint8] | None
) -> list[str]:
    """The matrix, and the pairs that are mixed up most."""
    shown = _mixed_up(matrix)
    reading = (
        f"A row is a class, a column what its test images were taken for, in images, {_all_seeds(tests)}. The"
        " diagonal is right; the stronger the colour, the larger the share of the row"
    )
    if len(shown) < len(classes):
        reading += f". Of {len(classes)} classes the {len(shown)} that are mixed up most"
    said = [
        f"<p class=reading>{escape(reading)}.</p>",
        _grid(classes, matrix, shown),
        "<h3>Mixed up most</h3>",
    ]
    pairs = worst_pairs(matrix)
    if not pairs:
        return [*said, "<p>No test image was taken for another class.</p>"]
    examples = _examples(tests) if images is not None else {}
    if images is not None and examples:
        less = first_alone(images.shape[3])
        said.append(
            "<p class=reading>Below each pair the images of it of which the network was surest, as it sees"
            f" them{less and f': {less}'}.</p>"
        )
    items = "".join(_pair(classes, matrix, pair, examples.get(pair, []), images) for pair in pairs)
    return [*said, f"<ol class=pairs>{items}</ol>"]


def _mixed_up(matrix: Matrix) -> list[int]:
    """Places of the classes to show, in their order."""
    wrong = matrix.sum(1) + matrix.sum(0) - 2 * matrix.diagonal()
    return sorted(np.argsort(-wrong, kind="stable")[:SHOWN].tolist())


def _grid(classes: Sequence[str], matrix: Matrix, shown: Sequence[int]) -> str:
    """A table of square cells with a count in each that is not 0; every row and column has its label."""
    side = 24 if len(shown) > 20 else 34 if len(shown) > 12 else 44
    if matrix[np.ix_(shown, shown)].max() > 999:
        side = max(side, 30)
    head = "".join(
        f"<th scope=col title='{escape(classes[j])}'><span>{escape(classes[j])}</span>" for j in shown
    )
    rows = []
    for i in shown:
        total = max(1, int(matrix[i].sum()))
        cells = "".join(_cell(classes, i, j, int(matrix[i, j]), total) for j in shown)
        rows.append(
            f"<tr><th scope=row title='{escape(classes[i])}'><span>{escape(classes[i])}</span>{cells}"
        )
    return (
        f"<div class=scroll><table class=confusion style='--side:{side}px'><tr><td class=corner>"
        f"is ↓ taken for →{head}{''.join(rows)}</table></div>"
    )


def _cell(classes: Sequence[str], i: int, j: int, count: int, total: int) -> str:
    if not count:
        return "<td>"
    share = count / total
    kind = "right" if i == j else "wrong"
    said = f"{classes[i]} taken for {classes[j]}: {count:,} of {total:,} ({100 * share:.1f}%)"
    strong = " strong" if share > 0.55 else ""
    colour = round(100 * (share if i == j else min(1.0, 0.12 + 1.6 * share)))
    return f"<td class='{kind}{strong}' style='--share:{colour}%' title='{escape(said)}'>{count}"


def worst_pairs(matrix: Matrix) -> list[tuple[int, int]]:
    """Classes with what they are taken for, by the number of images, the most first."""
    off = matrix.copy()
    np.fill_diagonal(off, 0)
    order = np.argsort(-off, axis=None, kind="stable")[:WORST]
    found = [divmod(int(at), len(off)) for at in order]
    return [(i, j) for i, j in found if off[i, j]]


def _examples(tests: Sequence[TestResult]) -> dict[tuple[int, int], list[tuple[int, float]]]:
    """Numbers of test images by pair, with the confidence of the first seed that mistook each."""
    found: dict[tuple[int, int], dict[int, float]] = {}
    for test in tests:
        for number, label, taken, sure in test.mistakes:
            found.setdefault((label, taken), {}).setdefault(number, sure)
    return {pair: sorted(one.items(), key=lambda item: -item[1]) for pair, one in found.items()}


def _pair(
    classes: Sequence[str], matrix: Matrix, pair: tuple[int, int], examples: Sequence[tuple[int, float]],
    images: NDArray[np.uint8] | None,
) -> str:  # fmt: skip
    i, j = pair
    count, total = int(matrix[i, j]), int(matrix[i].sum())
    pictures = "".join(
        f"<figure>{image(_small(images[number]), f'{classes[i]} taken for {classes[j]}')}"
        f"<figcaption>{100 * sure:.0f}%</figcaption></figure>"
        for number, sure in examples[:PICTURES]
        if images is not None and number < len(images)
    )
    return (
        f"<li><b>{escape(classes[i])}</b> taken for <b>{escape(classes[j])}</b>"
        f"<small>{count:,} of {total:,} images, {100 * count / total:.1f}%</small>"
        f"<div class=pictures>{pictures}</div>"
    )


def _small(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(H, W, C) uint8, scaled down where it is larger than it needs to be, then of the channels drawn."""
    if max(pixels.shape[:2]) <= LARGEST:
        return np.asarray(pixels)
    picture = drawn(pixels)
    picture.thumbnail((LARGEST, LARGEST))
    found = np.asarray(picture, np.uint8)
    return found[..., None] if found.ndim == 2 else found


def _calibration(tests: Sequence[TestResult]) -> list[str]:
    """Confidence against accuracy."""
    figure = go.Figure()
    figure.add_scatter(
        x=[0, 100], y=[0, 100], mode="lines", line={"color": GREY, "dash": "dot"}, hoverinfo="skip",
        showlegend=False,
    )  # fmt: skip
    for test, colour in zip(tests, COLOURS * len(tests), strict=False):
        figure.add_scatter(
            x=[round(100 * sure, 2) for _, sure, _ in test.calibration],
            y=[round(100 * right, 2) for _, _, right in test.calibration],
            customdata=[count for count, _, _ in test.calibration],
            mode="lines+markers", line={"color": colour, "width": 1},
            marker={"size": [5 + 17 * (count / test.images) ** 0.5 for count, _, _ in test.calibration]},
            name=f"seed {test.seed}",
            hovertemplate="sure by %{x:.1f}%, right in %{y:.1f}% of %{customdata} images<extra></extra>",
        )  # fmt: skip
    figure.update_xaxes(title="confidence, %", range=[0, 103]).update_yaxes(title="right, %", range=[0, 103])
    figure.update_layout(showlegend=len(tests) > 1)
    reading = (
        "Test images by the probability that the network gave to the class it chose; larger points are more"
        " images. Below the dotted line it is surer than it is right, above it less sure."
    )
    errors = [test.calibration_error or 0.0 for test in tests]
    surer = fmean(
        sum(count * (sure - right) for count, sure, right in test.calibration) / test.images for test in tests
    )
    which = "surer than it is right" if surer > 0 else "less sure than it is right"
    said = (
        f"Expected calibration error: {100 * fmean(errors):.1f} points"
        f"{' in the mean over the seeds' if len(errors) > 1 else ''}; over all images the network is"
        f" {100 * abs(surer):.1f} points {which}"
    )
    return [panel("", reading, figure, CALIBRATION_HEIGHT), paragraph(said)]
