"""The page of a full training: classes, confusion matrix, pairs that are mixed up, confidence, curves."""

import base64
import io
import itertools
import json
import re

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from search.report import pictures
from search.training import test_sections, test_set
from search.training.curve_sections import epoch_axis, loss_ticks

CLASSES = tuple(f"breed {i} <b>" for i in range(37))


def result(seed: int = 0, classes: int = 37, images: int = 20) -> test_set.TestResult:
    """Class 1 is taken for class 2 in a quarter of its images, all others are right."""
    confusion = np.diag([images] * classes)
    confusion[1, 1], confusion[1, 2] = images - images // 4, images // 4
    by_class = tuple(confusion.diagonal() / images)
    return test_set.TestResult(
        seed, float(confusion.trace() / confusion.sum()), 0.5, int(confusion.sum()), by_class,
        tuple(map(tuple, confusion.tolist())), calibration=((700, 0.9, 0.95), (40, 0.4, 0.5)),
        mistakes=((3, 1, 2, 0.8), (5, 1, 2, 0.7)),
    )  # fmt: skip


@pytest.fixture(scope="module")
def page() -> str:
    images = np.zeros((740, 8, 8, 1), np.uint8)
    return "\n".join(test_sections.sections(CLASSES, [result(0), result(1)], images))


def test_the_confusion_matrix_has_every_label_twice_and_every_count(page: str) -> None:
    matrix = page[page.index("<table class=confusion") : page.index("Mixed up most")]
    for i in range(37):
        label = f"<span>breed {i} &lt;b&gt;</span>"
        assert matrix.count(f"{label}<t") == 2, label
    counts = [int(found) for found in re.findall(r"<td class='(?:right|wrong)[^>]*>(\d+)", matrix)]
    assert (len(counts), sum(counts)) == (38, 2 * 740), "of both seeds together"
    assert len(re.findall("<td", matrix)) == 37 * 37 + 1, "square, and the corner"


def test_the_pairs_that_are_mixed_up_most_come_with_pictures(page: str) -> None:
    pairs = page[page.index("Mixed up most") :]
    assert "<b>breed 1 &lt;b&gt;</b> taken for <b>breed 2 &lt;b&gt;</b>" in pairs
    assert "10 of 40 images, 25.0%" in pairs
    assert pairs.count("<img ") == 2, "an image that two seeds mistook is shown once"


@pytest.mark.parametrize(
    ("channels", "shape"), [(1, (8, 8)), (2, (8, 8)), (3, (8, 8, 3)), (4, (8, 8)), (5, (8, 8))]
)
def test_of_images_that_are_no_pictures_the_first_channel_is_drawn(
    channels: int, shape: tuple[int, ...]
) -> None:
    pixels = np.zeros((8, 8, channels), np.uint8)
    pixels[..., 0] = 7
    shown = picture_of(pictures.image(pixels))
    assert shown.shape == shape
    assert np.array_equal(shown, pixels if channels == 3 else pixels[..., 0])


@pytest.mark.parametrize("side", [8, 200])
def test_mistaken_images_of_five_channels_are_shown_with_a_word_of_which(side: int) -> None:
    images = np.full((740, side, side, 5), 9, np.uint8)
    page = "".join(test_sections.sections(CLASSES, [result(0)], images))
    assert "as it sees them: of 5 channels the first, in grey.</p>" in page
    assert picture_of(page).shape == (min(side, 96), min(side, 96))


def picture_of(page: str) -> NDArray[np.uint8]:
    """The first picture on a page."""
    found = re.search(r"image/png;base64,([^\"]+)", page)
    assert found is not None
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(found[1]))))


def test_each_class_has_its_count_and_interval(page: str) -> None:
    table = page[page.index("Counts and intervals") : page.index("id=confusion")]
    assert table.count("<tr>") == 38
    row = next(row for row in table.split("<tr>") if ">breed 1 &lt;b&gt;<" in row)
    assert "<td>20<td>75.00%<td>53.1-88.8%" in row, "of one seed's images, since seeds see the same"
    assert "breed 2 &lt;b&gt; (25.0%)" in row


def test_nothing_on_the_page_ends_in_a_name(page: str) -> None:
    assert "<b>breed" not in page.replace("<b>breed 1 &lt;b&gt;", "").replace("<b>breed 2 &lt;b&gt;", "")
    assert " <b>" not in page.replace("for <b>breed", "")


def test_names_of_classes_in_a_figure_are_no_markup(page: str) -> None:
    plots = map(json.loads, re.findall(r'<script type="application/json">(.*?)</script>', page))
    figure = next(plot for plot in plots if "ticktext" in plot["layout"]["yaxis"])
    labels = [figure["layout"]["yaxis"]["ticktext"], *(trace["text"] for trace in figure["data"])]
    for shown in labels:
        assert shown[0] == "breed 1 &lt;b&gt;", "Plotly takes <b> for bold"


def test_a_network_that_makes_no_mistake_has_no_pairs() -> None:
    perfect = test_set.TestResult(0, 1.0, 0.1, 20, (1.0, 1.0), ((10, 0), (0, 10)))
    found = "\n".join(test_sections.sections(("a", "b"), [perfect], None))
    assert "No test image was taken for another class" in found
    assert "Confidence" not in found, "a result of before says nothing of it"


def test_of_very_many_classes_those_are_shown_that_are_mixed_up() -> None:
    names = tuple(f"c{i}" for i in range(300))
    found = "\n".join(test_sections.sections(names, [result(classes=300)], None))
    assert "Of 300 classes the 120 that are mixed up most" in found
    assert "<span>c1</span>" in found and "<span>c2</span>" in found


def test_calibration_is_that_of_the_definition() -> None:
    generator = torch.Generator().manual_seed(0)
    scores = torch.randn(500, 5, generator=generator) * 3
    labels = torch.randint(0, 5, (500,), generator=generator)
    bins = test_set.calibration(scores, labels)
    sure, taken = scores.softmax(1).max(1)
    right = (taken == labels).double()
    assert sum(count for count, _, _ in bins) == 500
    assert sum(n * r for n, _, r in bins) == pytest.approx(float(right.sum()))
    edges = torch.arange(test_set.BINS + 1) / test_set.BINS
    expected = 0.0
    for low, high in itertools.pairwise(edges):
        inside = (sure > low) & (sure <= high)
        if inside.any():
            expected += float(abs(sure[inside].double().mean() - right[inside].mean()) * inside.sum()) / 500
    found = test_set.TestResult(0, 0.0, 0.0, 500, (), (), calibration=bins)
    assert found.calibration_error == pytest.approx(expected)


def test_of_each_usual_mistake_the_surest_images_are_kept() -> None:
    scores = torch.tensor(
        [[0.0, 2.0], [0.0, 5.0], [3.0, 0.0], [0.0, 1.0], [0.0, 4.0], [0.0, 3.0], [0.0, 9.0]]
    )
    labels = torch.tensor([0, 0, 0, 0, 0, 0, 1])
    found = test_set.mistakes(scores, labels)
    assert [number for number, *_ in found] == [1, 4, 5, 0], "four at most, not the right ones"
    assert {(label, taken) for _, label, taken, _ in found} == {(0, 1)}
    assert found[0][3] == pytest.approx(float(torch.sigmoid(torch.tensor(5.0))))


@pytest.mark.parametrize(("epochs", "step"), [(1, 1), (3, 1), (10, 1), (12, 2), (60, 10), (200, 20)])
def test_an_axis_of_epochs_has_whole_ones(epochs: int, step: int) -> None:
    assert epoch_axis(epochs)["dtick"] == step


def test_a_logarithmic_axis_has_round_values_within_it() -> None:
    assert loss_ticks(0.01, 3.0) == [0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2]
    assert loss_ticks(0.8, 3.6) == [1, 1.2, 1.5, 2, 3] and len(loss_ticks(0.5, 0.6)) >= 1
