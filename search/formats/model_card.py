"""The model card that lies beside an exported network: Markdown after Mitchell et al., arXiv 1810.03993.

Takes the document of search/formats/carried.py, returns text: what the network is, on which data it was
trained and with which budget, its scores with their intervals, and what it must not be used for. Called by
search/formats/write.py.
"""

import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from search.formats.carried import BRIEF, TOLERANCE, Carried
from search.study.score import WORDS
from search.study.short_form import summary
from search.study.statistics import Interval, Spread, wilson
from search.study.text import counted, over_seeds, percent
from trainer.data.images import Fit

SHOWN = 20  # classes that are named
PICTURES = (1, 3)  # channels that pictures have

USE: Mapping[str, str] = {
    "python": """```python
import torch
import {stem}

network = {stem}.load()
with torch.inference_mode():
    scores = network({stem}.read("cat.png"))
```

Or `python {stem}.py cat.png`. It takes torch, numpy and Pillow, and `{stem}.safetensors` beside it.""",
    "onnx": """```python
import numpy as np
import onnxruntime

session = onnxruntime.InferenceSession("{name}")
images = np.zeros((1, {shape}), np.uint8)  # your pictures: bytes 0..255
(scores,) = session.run(["scores"], {{"images": images}})
classes = session.get_modelmeta().custom_metadata_map["classes"].split("\\n")
print(classes[scores[0].argmax()])
```

Images are normalised inside.""",
    "pt2": """```python
import torch

network = torch.export.load("{name}").module()
images = torch.zeros(1, {shape}, dtype=torch.uint8)  # your pictures: bytes 0..255
scores = network(images)
```

Images are normalised inside. Loading a .pt2 can run code that is in it: load none that you do not trust.""",
    "safetensors": """`search predict {quoted} cat.png`, or in Python `parsimony.load("{name}").trained()`.
Mean and deviation of each channel stand in the header.""",
}

# The same for images that are no pictures, of other than 1 or 3 channels.
USE_OF_ARRAYS: Mapping[str, str] = {
    "python": """```python
import torch
import {stem}

network = {stem}.load()
images = torch.zeros(1, {shape}, dtype=torch.uint8)  # yours: bytes 0..255
with torch.inference_mode():
    scores = network(images)
```

It takes torch, numpy and Pillow, and `{stem}.safetensors` beside it.""",
    "safetensors": """In Python `parsimony.load("{name}").trained()`.
Mean and deviation of each channel stand in the header.""",
}


def text(form: str, out: Path, document: Carried, difference: float, images: int) -> str:
    """The whole card of a file `out`, whose scores differed so far from the original's on so many images."""
    export = document.export
    network = export.architecture
    shape = f"{network.channels}, {network.image_size}, {network.image_size}"
    takes_pictures = network.channels in PICTURES
    use = (USE if takes_pictures else {**USE, **USE_OF_ARRAYS})[form].format(
        stem=out.stem, name=out.name, quoted=_code(shlex.quote(out.name)), shape=shape
    )
    parts = [
        f"# {_plain(out.name)}: a network for {_plain(export.data.name)}",
        f"Classifies {'pictures' if takes_pictures else 'images'} of {network.channels} x"
        f" {network.image_size} x {network.image_size} pixels into"
        f" {network.classes} classes: {_classes(document.classes)}. A residual network that Parsimony found:"
        f" trial {export.origin.trial} of the study {_plain(export.origin.study)},"
        f" fingerprint `{export.fingerprint}`.",
        _table(
            ("", ""),
            [
                ("Parameters", f"{export.parameters:,}"),
                ("Multiply-accumulates of an image", f"{export.macs:,}"),
                ("Budget of the search", _plain(str(export.budget))),
                ("Network", _plain(summary(network))),
            ],
        ),
        f"## How to use it\n\n{use}\n\nScores are {'shares' if network.head.softmax else 'logits'}"
        ", one for each class in the order above.",
        f"## How a picture is read\n\n{_reading(document)}",
        f"## Data\n\n{_data(document)}",
        f"## Scores\n\n{_scores(document)}",
        f"## What it must not be used for\n\n{_limits(document)}",
        f"## How the file was checked\n\nOn {counted(images, 'validation image')} its scores differ by"
        f" {difference:.1g} at most from those of the network that was trained ({TOLERANCE:g} is allowed)."
        f" `search verify {_code(shlex.quote(out.name))}` checks it again.",
    ]
    return "\n\n".join(parts) + "\n"


def _classes(names: Sequence[str]) -> str:
    shown = ", ".join(map(_plain, names[:SHOWN]))
    return shown if len(names) <= SHOWN else f"{shown} and {len(names) - SHOWN} more, in the file"


FITS: Mapping[Fit, str] = {
    "pad": "the longer side becomes {side} and the other keeps its proportion, at least one pixel; then the"
    " outermost pixels are repeated on both sides, by one more at the end where the rest is odd",
    "crop": "the middle of it, cut to a square first (`ImageOps.fit`)",
    "stretch": "both sides become {side}, whatever they were",
}


def _reading(document: Carried) -> str:
    """How a file of a picture becomes what the network takes, as trainer/data/images.py does it."""
    side, fit = document.export.architecture.image_size, document.fit
    channels = document.export.architecture.channels
    if channels not in PICTURES:
        return (
            f"Not at all: pictures have one channel or three, and this network takes {channels}. Give it"
            f" images as its data had them: bytes 0..255, in the order channels, rows, columns,"
            f" {side} x {side} pixels."
        )
    by = 2 ** max(0, document.bits - 8)
    steps = [
        f"Opened by Pillow, a JPEG by `draft` for {side} x {side} pixels; of several frames the first.",
        "Turned as its EXIF says (tag 0x0112).",
        f"Grey levels of more than 8 bits: divided by {by}, rounded down, 255 at most."
        if by > 1
        else "Grey levels of more than 8 bits: as they are, 255 at most.",
        "Laid on white where it is transparent.",
        "Three channels: red, green, blue (`RGB`)." if channels == 3 else "One channel: grey (`L`).",
        f"{side} x {side} pixels, by Pillow's bicubic filter, unless it has them: {fit}, {FITS[fit]}.".format(
            side=side
        ),
        "Bytes 0..255, in the order channels, rows, columns.",
    ]
    listed = "\n".join(f"{number}. {step}" for number, step in enumerate(steps, 1))
    return (
        "In this order, as in training. `search predict` does it, and to the byte `read` in the Python file"
        f" that `search export --format python` writes.\n\n{listed}"
    )


def _data(document: Carried) -> str:
    data = document.export.data
    rows = [
        ("Images", f"{_plain(data.name)} (`{_code(data.spec)}`)"),
        ("For the search", f"{data.train_images:,} to train on, {data.validation_images:,} to validate on"),
        ("sha256 of the images", f"`{data.digest}`"),
        (
            "sha256 of the split",
            f"`{data.split_digest}`, "
            + (f"validation images: {data.own_part}" if data.own_part else f"seed {data.split_seed}"),
        ),
    ]
    return _table(("", ""), rows)


def _scores(document: Carried) -> str:
    rows = list(_score_rows(document))
    notes = list(_notes(document))
    return _table(("What", "Accuracy", "95% interval", "Measured on"), rows) + "\n\n" + " ".join(notes)


def _score_rows(document: Carried) -> Iterator[tuple[str, str, str, str]]:
    export, training = document.export, document.training
    validation = export.data.validation_images
    on = f"{validation:,} validation images"
    if (accuracy := training.validation_accuracy) is not None:
        alike = training.is_validated_alike
        interval = str(wilson(accuracy, validation)) if alike else "not known"
        yield ("these weights", percent(accuracy), interval, on if alike else "validation images of theirs")
    if (accuracy := training.test_accuracy) is not None and training.test_images:
        tested = f"{training.test_images:,} test images, read once"
        yield ("these weights", percent(accuracy), str(wilson(accuracy, training.test_images)), tested)
    if found := export.confirmation:
        what = "mean of {} of this network"
        if found.test:
            number = counted(found.tested_seeds, "full training")
            on_test = f"{found.test_images:,} test images"
            yield (what.format(number), percent(found.test.mean), _spread(found.test), on_test)
        what = what.format(counted(found.seeds, "full training"))
        yield (what, percent(found.validation.mean), _spread(found.validation), on)
    metrics = export.metrics
    what = f"brief training, {counted(export.origin.epochs or 0, 'epoch')}"
    yield (what, percent(metrics.validation_accuracy), str(Interval(*metrics.interval_95)), on)
    if metrics.validation_score is not None:
        name = _plain(metrics.own_score or WORDS[metrics.score])
        yield (what, f"{percent(metrics.validation_score)} {name}, which the search maximised", "none", on)


def _spread(found: Spread) -> str:
    """The interval of a mean over seeds, both values of two, or that there is none."""
    if found.interval:
        return f"{found.interval} over seeds"
    return over_seeds(found) or "too few seeds: none"


def _notes(document: Carried) -> Iterator[str]:
    export, training = document.export, document.training
    yield f"The weights are of {_plain(training.what)}{training.how}."
    by = "brief scores and full trainings" if export.confirmation else "its brief score"
    yield (
        f"The network was chosen among {export.origin.trained} by {by} on the validation images:"
        " expect somewhat less on new images than they say."
    )
    yield "Intervals hold the luck of the images alone (Wilson), where it is not said otherwise."
    if not training.is_test_known:
        yield "Whether these weights were tried on test images is not known."
    elif training.test_accuracy is None:
        yield "These weights were not tried on test images."


def _limits(document: Carried) -> str:
    export = document.export
    lines = [
        f'Pictures of anything but its {export.architecture.classes} classes: it knows no "none of these" and'
        " names one of them for every picture.",
        "Pictures taken, cut or coloured in another way than its data: nothing but that data was measured.",
        "Decisions about people, their health, rights, money or safety, and what does harm when it is wrong:"
        " how often it is wrong for any group of pictures was not looked into.",
        "Reading its shares as probabilities: they were not calibrated.",
        "Input that somebody made to deceive it: it was not tried on any.",
        "What the licence of its data does not allow.",
    ]
    if document.training.what == BRIEF:
        name = f"{export.origin.study}:{export.origin.trial}"
        lines.insert(
            0,
            "Work of any kind, as long as it has these weights: they are of a brief training, made to rank"
            f" networks. `search train {_code(shlex.quote(name))}` trains it to the end.",
        )
    return "\n".join(f"- {line}" for line in lines)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _plain(name: str) -> str:
    """A name in which nothing is Markdown or HTML, on one line."""
    one = " ".join(name.split())
    return re.sub(r"([\\`*_\[\]<>|#])", r"\\\1", one)


def _code(name: str) -> str:
    """A name between backquotes."""
    return " ".join(name.split()).replace("`", "'").replace("|", "/")
