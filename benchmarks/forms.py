"""Measures a network in each form that it can be taken along in: size, memory and time, for docs/export.md.

    OMP_NUM_THREADS=1 python -m benchmarks.forms [--repeats 30] [NETWORK.json ...]

Without files it takes the first guess [3,3,3] of the default space at budgets of 5M, 1M and 0.25M parameters,
for CIFAR-10. Weights are not trained, which changes neither size nor time. Each form is written as
`search export` writes it, into a temporary folder, and used in a process of its own: one thread, one image at
a time. Time is processor time, the smallest of the repeats, so that other work on the machine counts little;
memory is the largest resident set of the process, libraries included (Linux). Prints Markdown, keeps nothing.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import torch

from search.formats import write
from search.formats.carried import Carried, Training
from search.formats.deployed import Deployed
from search.study.config import DataConfig
from search.study.export import FORMAT, Export, LayerRow, Metrics, Origin
from search.study.short_form import summary
from search.study.statistics import wilson
from space import architecture as architectures, baselines, cost, space as spaces
from space.architecture import Architecture
from space.budget import Budget
from space.space import Task
from trainer import model
from trainer.data.batches import Normalisation
from trainer.recipe.document import Recipe
from trainer.weights import Weights

BUDGETS = (5_000_000, 1_000_000, 250_000)
LOAD = {
    "python": "import best, torch; net = best.load(); call = lambda x: net(torch.from_numpy(x))",
    "onnx": "import onnxruntime as o; s = o.SessionOptions(); s.intra_op_num_threads = 1;"
    " r = o.InferenceSession('best.onnx', s); call = lambda x: r.run(None, {'images': x})",
    "pt2": "import torch; net = torch.export.load('best.pt2').module();"
    " call = lambda x: net(torch.from_numpy(x))",
    "safetensors": "import parsimony, torch; net = parsimony.load('best.safetensors').trained();"
    " call = lambda x: net(torch.from_numpy(x))",
}
MEASURE = r"""
import json, re, sys, time
sys.path.insert(0, ".")
{load}
import numpy
if "torch" in sys.modules:
    torch.set_num_threads(1)
    torch.set_grad_enabled(False)
x = numpy.random.RandomState(0).randint(0, 256, (1, {channels}, {side}, {side})).astype(numpy.uint8)
times = []
for _ in range({repeats} + 3):
    begun = time.process_time()
    call(x)
    times.append(time.process_time() - begun)
# Not ru_maxrss, which a process has from its parent.
peak = int(re.search(r"VmHWM:\s+(\d+)", open("/proc/self/status").read())[1]) / 1024
print(json.dumps([peak, 1000 * min(times[3:])]))
"""


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("networks", nargs="*", type=Path)
    parser.add_argument("--repeats", type=int, default=60)
    given = parser.parse_args()
    networks = [architectures.load(path) for path in given.networks] or [guess(limit) for limit in BUDGETS]
    print(f"torch {torch.__version__}, one thread\n")
    print("| Network | Form | Files, MB | Peak memory, MB | Milliseconds an image |")
    print("| --- | --- | --- | --- | --- |")
    for network in networks:
        for row in measured(network, given.repeats):
            print(row, flush=True)


def guess(limit: int) -> Architecture:
    """The first guess of a search with this budget."""
    return baselines.baselines(spaces.default(), Budget(limit), Task())[0].architecture


def measured(network: Architecture, repeats: int) -> list[str]:
    """A row of the table for each form."""
    spent = cost.total(network)
    what = f"{spent.parameters:,} parameters, {spent.macs / 1e6:.0f}M MACs: {summary(network)}"
    return [f"| {what} | {form} | {_one(form, network, repeats)} |" for form in write.FORMS]


def _one(form: write.Form, network: Architecture, repeats: int) -> str:
    torch.manual_seed(0)
    state = {name: value.contiguous() for name, value in model.build(network).state_dict().items()}
    classes = tuple(map(str, range(network.classes)))
    ones = (128.0,) * network.channels, (64.0,) * network.channels
    found = Weights(network, classes, Normalisation(*ones), {}, state)
    whole = Deployed(found.network(), found.normalisation)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, f"best{write.ENDING[form]}")
        files = write.contents(form, path, found, document(found, whole), whole)
        for file, parts in files.items():
            file.write_bytes(parts)
        size = sum(map(len, files.values())) / 1e6
        code = MEASURE.format(
            load=LOAD[form], channels=network.channels, side=network.image_size, repeats=repeats
        )
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=folder, check=True, capture_output=True, text=True
        )
    peak, milliseconds = json.loads(done.stdout)
    return f"{size:.1f} | {peak:.0f} | {milliseconds:.1f}"


def document(found: Weights, network: Deployed) -> Carried:
    """A document with no figures of a search, as there was none."""
    architecture = found.architecture
    spent = cost.total(architecture)
    none = "0" * 64
    data = DataConfig(
        spec="cifar10", name="CIFAR-10", image_size=architecture.image_size, limit=None, validation_share=0.1,
        split_seed=0, train_images=45_000, validation_images=5_000, digest=none, split_digest=none,
    )  # fmt: skip
    export = Export(
        format=FORMAT,
        fingerprint=architecture.fingerprint,
        parameters=spent.parameters,
        macs=spent.macs,
        budget=Budget(spent.parameters),
        architecture=architecture,
        layers=tuple(LayerRow(**row._asdict()) for row in cost.layers(architecture)),
        metrics=Metrics(
            validation_accuracy=0.0, interval_95=wilson(0.0, data.validation_images),
            best_epoch_accuracy=None, validation_loss=None, measured_on="not measured",
            standing="brief score only",
        ),
        recipe=Recipe(epochs=1),
        data=data,
        origin=Origin(
            study="none", trial=0, trained=0, seed=0, epochs=None, seconds=None, device=None, versions={}
        ),
    )  # fmt: skip
    training = Training(what="no training", seed=None, epochs=None, validation_accuracy=None)
    return write.document_of(export, found, training, network)


if __name__ == "__main__":
    main()
