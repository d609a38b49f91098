"""The seven short parts of the benchmark of a GPU, and three others; each is a process of its own.

    python -m benchmarks.speed.gpu_parts PART [--quick] --json FILE

Started by gpu.py, which gathers what they find; each writes one JSON document. All images are made up. With
--quick the cases are tiny, and run on a CPU too: that shows that a part runs, and nothing of a GPU.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is loaded

import torch

from benchmarks.speed import made_up_pictures
from benchmarks.speed.limits import wait
from benchmarks.speed.training import architecture
from space import cost, sampling, space as spaces
from space.architecture import Architecture
from space.budget import Budget
from space.random_suggest import RandomSuggest
from trainer import initialisation, loop, step_graph
from trainer.augmentation.mixup import Targets
from trainer.callbacks import TrainingCallbacks
from trainer.data.batches import Normalisation
from trainer.data.dataset import Dataset, Split
from trainer.device import cudnn_choices, select_device
from trainer.evaluation import evaluate
from trainer.recipe.document import Recipe
from trainer.training_step import TrainingStep

ROOT = Path(__file__).parents[2]
SIDE, CLASSES = 32, 10
DRAWS = 60  # networks of the default space, of which three are taken
BATCHES = (128, 256, 512)
MOST_LINES = 200  # of tests that fail, on a machine that may be gone when they are read
WAITED = "called a synchronizing"  # what torch says of an operation that waited
RATE = 0.4  # of a batch of 128; others by the root of their size (docs/recipe.md)


class Case(NamedTuple):
    """How much is measured: all of it on a GPU, next to nothing with --quick."""

    quick: bool
    device: torch.device

    def of(self, whole: Any, tiny: Any) -> Any:
        return tiny if self.quick else whole


def networks(case: Case) -> dict[str, Architecture]:
    """001-final, slim, and of the default space the middle ones of three thirds by multiply-accumulates."""
    budget = Budget(case.of(5_000_000, 20_000), case.of(1_000_000_000, 300_000))
    drawn = [
        sampling.propose(spaces.default(), budget, spaces.Task(), RandomSuggest(seed))
        for seed in range(case.of(DRAWS, 6))
    ]
    ranked = sorted(drawn, key=lambda one: cost.total(one).macs)
    thirds = {
        name: ranked[len(ranked) * sixth // 6] for name, sixth in (("small", 1), ("median", 3), ("large", 5))
    }
    if case.quick:
        return thirds
    return {name: architecture(name, 3, SIDE, CLASSES) for name in ("001-final", "slim")} | thirds


def recipe_of(batch: int, **fields: Any) -> Recipe:
    """That of a large training by SGD, with another batch and the rate that goes with it."""
    rate = RATE * (batch / BATCHES[0]) ** 0.5
    return Recipe.model_validate({"batch_size": batch, "learning_rate": rate, **fields})


def pictures(images: int, validation: int) -> tuple[Dataset, Split]:
    """Made-up pictures that can be learned, in memory."""
    pixels, labels = made_up_pictures.made_up(images + validation)
    rows = torch.arange(images + validation).numpy()
    dataset = Dataset(
        spec="noise",
        name="noise",
        classes=tuple(f"class{i}" for i in range(CLASSES)),
        image_size=SIDE,
        channels=3,
        digest="noise",
        images=pixels,
        labels=labels,
        cache=Path("nowhere"),
    )
    return dataset, Split("noise", rows[:images], rows[images:])


class _Steps:
    """Steps of one network on one batch of noise, plain or recorded."""

    def __init__(self, network: Architecture, recipe: Recipe, case: Case, recorded: bool) -> None:
        built = initialisation.network(network, recipe).to(case.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        built.train()
        shape = (recipe.batch_size, network.channels, network.image_size, network.image_size)
        x = torch.randn(shape, device=case.device)
        self.x = x.contiguous(memory_format=torch.channels_last)
        self.targets = Targets(torch.randint(network.classes, (recipe.batch_size,), device=case.device))
        self.step, self.device = TrainingStep(built, recipe, case.device), case.device
        self.step.set_rate(recipe.learning_rate, None)
        recorder = step_graph.cuda_recorder(recipe, case.device) if recorded else None
        self.call = step_graph.GraphedStep(self.step, recorder) if recorder else self.step

    def run(self, count: int) -> tuple[float, float]:
        """Milliseconds a step: until the host had launched them, and until the device was done."""
        self.wait()
        began = time.perf_counter()
        for _ in range(count):
            self.call(self.x, self.targets)
        launched = time.perf_counter()
        self.wait()
        done = time.perf_counter()
        return 1_000 * (launched - began) / count, 1_000 * (done - began) / count

    def wait(self) -> None:
        self.step.total.item()


def step(case: Case) -> dict[str, Any]:
    """(a) Host and device time of a step, plain and recorded, of two networks and three batches."""
    there, rows = networks(case), []
    for name in case.of(("001-final", "median"), ("median",)):
        for batch in case.of(BATCHES, (8,)):
            for recorded in (False, True):
                steps = _Steps(there[name], recipe_of(batch), case, recorded)
                with cudnn_choices(case.device, timed=False):
                    steps.run(step_graph.WARM_UP_STEPS + 2)
                    host, both = steps.run(case.of(10, 2))  # few: a full queue would hold the host back
                    _, steady = steps.run(case.of(60, 2))
                rows.append(
                    {"network": name, "batch": batch, "recorded": recorded, "host_ms": host}
                    | {"step_ms": steady, "short_ms": both, "images_per_second": 1_000 * batch / steady}
                )
    return {"rows": rows}


def cudnn(case: Case) -> dict[str, Any]:
    """(b) The first steps of five networks by cuDNN's rules and by trying, and the steady, recorded ones.

    A process for either: torch keeps what was chosen for a shape, by whichever way, for as long as it lives.
    """
    rows = []
    for part in ("cudnn-by-rules", "cudnn-tried"):
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder) / "found.json"
            command = [sys.executable, "-m", "benchmarks.speed.gpu_parts", part, "--json", str(out)]
            subprocess.run([*command, *case.of((), ("--quick",))], cwd=ROOT, check=True)
            rows += json.loads(out.read_text())["rows"]
    return {"rows": rows}


def cudnn_side(case: Case, timed: bool) -> dict[str, Any]:
    """One side of it, in this process."""
    rows = []
    for name, network in networks(case).items():
        steps = _Steps(network, recipe_of(case.of(128, 8)), case, recorded=True)
        with cudnn_choices(case.device, timed=timed):
            first = steps.run(1)[1]
            steps.run(step_graph.WARM_UP_STEPS + 1)
            steady = steps.run(case.of(60, 1))[1]
        rows.append({"network": name, "tried": timed, "first_ms": first, "step_ms": steady})
    return {"rows": rows}


def evaluation(case: Case) -> dict[str, Any]:
    """(c) Evaluation in both precisions and three sizes of batch, with the memory at its peak."""
    name, network = next(iter(networks(case).items()))
    built = initialisation.network(network, Recipe()).to(case.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    count, rows = case.of(10_000, 64), []
    images = torch.randint(256, (count, SIDE, SIDE, 3), dtype=torch.uint8, device=case.device)
    labels = torch.randint(CLASSES, (count,), device=case.device)
    scaled = Normalisation((127.0,) * 3, (64.0,) * 3)
    for precision in (torch.float32, torch.bfloat16):
        for most in case.of((256, 512, 1_024), (16, 32, 64)):
            judge = partial(evaluate, built, images, labels, scaled, precision=precision, most=most)
            judge()
            _reset_peak(case.device)
            began = time.perf_counter()
            judge()
            seconds = time.perf_counter() - began
            rows.append(
                {"network": name, "precision": str(precision).removeprefix("torch."), "batch": most}
                | {"images_per_second": count / seconds, "peak_bytes": _peak(case.device)}
            )
    return {"rows": rows}


def _reset_peak(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


def _peak(device: torch.device) -> int | None:
    return torch.cuda.max_memory_allocated(device) if device.type == "cuda" else None


def captured(case: Case) -> dict[str, Any]:
    """(d) Whole trainings with recorded and with plain steps: their losses side by side, and their rates."""
    there, rows = networks(case), []
    dataset, split = pictures(case.of(6_400, 64), case.of(500, 16))
    for name in case.of(("001-final", "median"), ("median",)):
        for fields in ({}, {"optimizer": "muon"}, {"mixup": 0.2, "cutmix": 1.0, "ema": 0.99}):
            recipe = recipe_of(case.of(128, 16), epochs=2, **fields)
            found = {
                "plain": _trained(there[name], recipe, dataset, split, case, step_graph.plain_steps),
                "recorded": _trained(there[name], recipe, dataset, split, case, step_graph.cuda_recorder),
            }
            losses = {kind: [one["loss"] for one in epochs] for kind, epochs in found.items()}
            pairs = list(zip(losses["plain"], losses["recorded"], strict=True))
            rows.append(
                {"network": name, "recipe": fields, "losses": losses}
                | {"difference": max(abs(a - b) / max(abs(a), 1e-9) for a, b in pairs)}
                | {kind: epochs[-1]["images_per_second"] for kind, epochs in found.items()}
            )
    return {"rows": rows}


def _trained(
    network: Architecture,
    recipe: Recipe,
    dataset: Dataset,
    split: Split,
    case: Case,
    make: step_graph.MakeRecorder = step_graph.cuda_recorder,
) -> list[dict[str, float]]:
    """Loss, accuracy and images a second of each epoch."""
    told: list[dict[str, float]] = []
    loop.fit(
        network,
        recipe,
        dataset,
        split,
        seed=0,
        device=case.device,
        make_recorder=make,
        callbacks=TrainingCallbacks(
            on_epoch=lambda one: told.append(
                {"loss": one.train_loss, "accuracy": one.validation_accuracy}
                | {"images_per_second": one.images_per_second, "seconds": one.seconds}
            )
        ),
    )
    return told


def workers(case: Case) -> dict[str, Any]:
    """(e) 1, 2, 4 and 8 processes side by side, as many as there are cores: images a second in all."""
    from search.launcher import workers_per_gpu
    from search.machine.devices import cores

    there = networks(case)
    task = {
        "networks": [there[name].document() for name in ("small", "median", "large")],
        "recipe": recipe_of(case.of(128, 8)).model_dump(mode="json"),
        "seconds": case.of(workers_per_gpu.SECONDS, 0.1),
    }
    pinned = {name: os.environ[name] for name in ("CUDA_VISIBLE_DEVICES",) if name in os.environ}
    rows: list[dict[str, Any]] = []
    for count in case.of((1, 2, 4, 8), (1, 2)):
        if count > max(cores(), 2):
            break
        try:
            probes = workers_per_gpu.side_by_side(task, pinned, count)
        except workers_per_gpu.ProbeError as error:
            rows.append({"workers": count, "failed": str(error)})
            break
        rows.append(
            {"workers": count}
            | {"images_per_second": sum(one.images_per_second for one in probes)}
            | {"memory_bytes": max(one.memory for one in probes)}
        )
    return {"rows": rows}


def waits(case: Case) -> dict[str, Any]:
    """(f) What waits for the device within the second epoch of a training, as torch itself tells.

    One is expected, of the loss at the end. Plain steps: of recorded ones torch sees a launch alone.
    """
    dataset, split = pictures(case.of(2_560, 32), 16)
    network, rows = networks(case)["median"], []
    for name, fields in {
        "plain": {},
        "mixed": {"mixup": 0.2, "cutmix": 1.0},
        "augmix": {"policy": "augmix"},
    }.items():
        said: list[list[str]] = []
        original = loop._Run._train

        def told(run: loop._Run, original: Callable[[loop._Run], float] = original) -> float:
            with waits_told(case.device) as lines:
                loss = original(run)
            said.append(lines)  # noqa: B023
            return loss

        loop._Run._train = told  # type: ignore[method-assign]
        try:
            recipe = recipe_of(case.of(128, 16), epochs=2, **fields)
            _trained(network, recipe, dataset, split, case, step_graph.plain_steps)
        finally:
            loop._Run._train = original  # type: ignore[method-assign]
        rows.append({"recipe": name, "waits": len(said[-1]), "where": sorted(set(said[-1]))})
    return {"rows": rows}


@contextmanager
def waits_told(device: torch.device) -> Iterator[list[str]]:
    """File and line of each wait within. tests/trainer/test_on_gpu.py asks for them too."""
    lines: list[str] = []
    if device.type != "cuda":
        yield lines
        return
    with warnings.catch_warnings(record=True) as caught:  # to ask for warnings is a warning itself
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            yield lines
        finally:
            torch.cuda.set_sync_debug_mode("default")
    lines += [f"{Path(one.filename).name}:{one.lineno}" for one in caught if WAITED in str(one.message)]


def tests(case: Case) -> dict[str, Any]:
    """(g) The tests that need a GPU, and a search of 6 trials by 2 workers."""
    command = [sys.executable, "-m", "pytest", "-n", "0", "-m", "gpu", "tests/trainer"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    said = (done.stdout.strip().splitlines() or ["pytest said nothing"])[-1]
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        code, line = _small_search(case, Path(folder))
    return {
        "tests": said.strip("= "),
        "tests_passed": done.returncode == 0,
        "said": done.stdout.splitlines()[-MOST_LINES:] if done.returncode else [],
        "search_exit_code": code,
        "search": line,
        "search_seconds": time.perf_counter() - began,
    }


def _small_search(case: Case, folder: Path) -> tuple[int, str]:
    """Exit code and last line of a search of digits."""
    words = ["--trials", case.of("6", "2"), "--workers", "2", "--data", "digits", "--data-dir", str(folder)]
    words += ["--epochs", case.of("6", "1"), "--max-macs", case.of("4000000", "300000")]
    words += ["--storage", f"sqlite:///{folder}/search.db", "--study", "gpu-benchmark"]
    words += ["--train-images", "200"] if case.quick else []
    command = [sys.executable, "-m", "search", "launch", *words]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    lines = (done.stdout if done.returncode == 0 else done.stderr).strip().splitlines()
    return done.returncode, (lines or ["the search said nothing"])[0 if done.returncode == 0 else -1]


def batches(case: Case) -> dict[str, Any]:
    """Brief trainings in batches of 128, 256 and 512, at rates by the root: rate, seconds and accuracy."""
    return _brief(case, ("slim", "median"), [recipe_of(batch) for batch in case.of(BATCHES, (8, 16))])


def optimizers(case: Case) -> dict[str, Any]:
    """Brief trainings by SGD and by Muon, the default: rate, seconds and accuracy."""
    batch = case.of(BATCHES[0], 8)
    return _brief(
        case, ("median", "001-final"), [recipe_of(batch, optimizer=name) for name in ("sgd", "muon")]
    )


def _brief(case: Case, names: Sequence[str], recipes: Sequence[Recipe]) -> dict[str, Any]:
    """A row a network and recipe."""
    dataset, split = pictures(case.of(45_000, 64), case.of(5_000, 16))
    there, rows = networks(case), []
    for name in case.of(names, ("median",)):
        for recipe in recipes:
            told = _trained(there[name], recipe.for_epochs(case.of(8, 1)), dataset, split, case)
            last, later = told[-1], told[1:] or told
            rate = statistics.median(one["images_per_second"] for one in later)
            rows.append(
                {"network": name, "batch": recipe.batch_size, "optimizer": recipe.optimizer}
                | {"learning_rate": recipe.learning_rate, "images_per_second": rate}
                | {"seconds": sum(one["seconds"] for one in told), "accuracy": last["accuracy"]}
            )
    return {"rows": rows}


def profile(case: Case) -> dict[str, Any]:
    """What kernels take of a recorded step, by what they do: microseconds of it, the longest ones first."""
    there, rows = networks(case), []
    steps_profiled = case.of(5, 1)
    for name in case.of(("001-final", "small", "median", "large"), ("median",)):
        for batch in case.of((128, 512), (8,)):
            steps = _Steps(there[name], recipe_of(batch), case, recorded=True)
            with cudnn_choices(case.device, timed=True):
                steps.run(step_graph.WARM_UP_STEPS + 2)
                step_ms = steps.run(case.of(30, 1))[1]
                with torch.profiler.profile(acc_events=True) as told:
                    steps.run(steps_profiled)
            taken = [(one.key, one.count, _kernel_us(one, case.device)) for one in told.key_averages()]
            kernels = sorted(
                ((k, n, us / steps_profiled) for k, n, us in taken if us), key=lambda one: -one[2]
            )
            kinds: dict[str, float] = {}
            for kernel, _, us in kernels:
                kinds[kind_of(kernel)] = kinds.get(kind_of(kernel), 0.0) + us
            rows.append(
                {"network": name, "batch": batch, "step_ms": step_ms, "kinds": kinds}
                | {"kernels": [[kernel[:120], n, us] for kernel, n, us in kernels[:40]]}
            )
    return {"rows": rows}


def _kernel_us(told: Any, device: torch.device) -> float:
    """Microseconds of it alone."""
    return float(told.self_device_time_total if device.type == "cuda" else told.self_cpu_time_total)


KINDS = {  # of kernels, by what is in their names, the first that fits
    "norms": ("batch_norm", "for_multi_outputs"),
    "convolutions": ("fprop", "dgrad", "wgrad", "onv", "sgemm", "ReduceSplitK", "init_device_workspace"),
    "optimizer": ("multi_tensor",),
    "activations and additions": ("clamp", "elu", "BinaryFunctor", "CUDAFunctor_add", "threshold"),
}


def kind_of(kernel: str) -> str:
    """What a kernel does, as far as its name says."""
    return next((kind for kind, names in KINDS.items() if any(one in kernel for one in names)), "others")


def norms(case: Case) -> dict[str, Any]:
    """A norm forward and back, as torch chooses and by cuDNN, on the maps of [3,3,3] at the full budget.

    A third of a step of it are norms on an H200, by torch's own kernels, which it chooses for bfloat16.
    """
    rows = []
    for channels, side in case.of(((64, 32), (128, 16), (256, 8)), ((8, 8),)):
        shape = (case.of(128, 4), channels, side, side)
        like = {"device": case.device, "dtype": torch.bfloat16}
        x = torch.randn(shape, **like).contiguous(memory_format=torch.channels_last).requires_grad_()
        gradient = torch.randn(shape, **like).contiguous(memory_format=torch.channels_last)
        weight, bias = (torch.ones(channels, device=case.device, requires_grad=True) for _ in range(2))
        mean, variance = (torch.ones(channels, device=case.device) for _ in range(2))
        given = (weight, bias, mean, variance, True, 0.1, 1e-5)
        by: dict[str, Callable[[], torch.Tensor]] = {
            "torch": lambda: torch.batch_norm(x, *given, True),  # noqa: B023
            "cudnn": lambda: torch.cudnn_batch_norm(x, *given)[0],  # type: ignore[attr-defined] # noqa: B023
        }
        for name, forward in by.items():
            row = {"shape": list(shape), "by": name}
            try:
                row["us"] = _forth_and_back(forward, gradient, case)
            except (RuntimeError, NotImplementedError) as error:
                row["failed"] = str(error).splitlines()[0][:120]
            rows.append(row)
    return {"rows": rows}


def _forth_and_back(forward: Callable[[], torch.Tensor], gradient: torch.Tensor, case: Case) -> float:
    """Microseconds of one pass, of many in a row."""
    count = case.of(200, 2)
    for _ in range(case.of(10, 1)):
        forward().backward(gradient)
    wait(case.device)
    began = time.perf_counter()
    for _ in range(count):
        forward().backward(gradient)
    wait(case.device)
    return 1e6 * (time.perf_counter() - began) / count


PARTS: dict[str, Callable[[Case], dict[str, Any]]] = {
    "step": step,
    "cudnn": cudnn,
    "evaluation": evaluation,
    "captured": captured,
    "workers": workers,
    "waits": waits,
    "tests": tests,
    "batches": batches,
    "optimizers": optimizers,
    "profile": profile,
    "norms": norms,
}


SIDES: dict[str, Callable[[Case], dict[str, Any]]] = {  # of the part `cudnn`
    "cudnn-by-rules": partial(cudnn_side, timed=False),
    "cudnn-tried": partial(cudnn_side, timed=True),
}


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("part", choices=[*PARTS, *SIDES])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", type=Path, required=True)
    given = parser.parse_args(words)
    case = Case(given.quick, select_device())
    began = time.perf_counter()
    found = (PARTS | SIDES)[given.part](case) | {"seconds": time.perf_counter() - began}
    given.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
