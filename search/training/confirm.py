"""Trains the best networks of a study to the end and ranks them by what it maximises, on validation images,
for `search confirm`.

Reads a study; starts one `search train` for each network (search/training/parallel.py) and reads the
result.json that it leaves; writes confirm.json and confirm.html. The test images of the best are opened once
for each seed, and choose nothing. A sample of the study from best to worst, without test, gives Kendall's tau
of brief and full scores. Called by search/commands/training.py.
"""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from search import settings
from search.machine import devices
from search.study import reader
from search.study.console import stderr_console
from search.study.score import ScoreName
from search.study.statistics import Correlation, Spread, correlation
from search.study.text import IN_ITS_PLACE, counted
from search.training import confirm_page, contenders, parallel
from search.training.confirm_board import Board
from search.training.contenders import ConfirmedNetwork, Contender, Flags
from search.training.parallel import TrainingProcess
from space.files import replace
from storage import trainings

LOW = 0.5  # a Kendall's tau below it: a pair of networks is in the wrong order more than one time in four


def confirm(flags: Flags, show: Callable[[list[dict[str, Any]]], None]) -> int:
    """Trains, ranks and reports; `show` is handed a row for each network, the best first.

    Returns the exit code: 1 where a training failed. Raises NothingTrainedError where the study has no
    network that was trained to the end, StudyError and StorageError; ArchitectureError for a file of --also
    that holds no network; UsageError for a folder of trainings of other epochs. Files of before stay where no
    training of the best came to its end.
    """
    console = stderr_console()
    slots = devices.slots(flags.gpus, None if flags.workers is None else max(1, flags.workers))
    with reader.open_study(flags.storage, flags.study, whole=True) as view:
        name, recipe_epochs = view.record.name, view.config.recipe.epochs
        maximised, own = view.config.score, view.config.own_score
        images = view.config.data.digest
        ranked = contenders.completed(view.rows(), name)
    out = flags.out or Path(f"confirm-{name}")
    score: ScoreName = "accuracy" if maximised == "own" else maximised
    chosen = contenders.choose(flags, name, ranked, out, score)
    contenders.require_length(chosen, flags.epochs)
    if own:
        console.print(f"{name} maximised {own}: full trainings go by accuracy")
    console.print(
        f"{name}: {sum(not c.sealed for c in chosen)} to confirm, {counted(flags.seeds, 'seed')} each,"
        f" {sum(c.sealed for c in chosen)} more for the order,"
        f" one seed each{' or all that they have' if any(c.sealed and c.seeds > 1 for c in chosen) else ''};"
        f" {counted(flags.epochs, 'epoch')}, {len(slots)} at a time"
    )
    for line in _trained_once(flags, chosen):
        console.print(line, markup=False)
    for line in _opened_before(flags.storage, images, chosen):
        console.print(line)
    works = [_work(contender, flags, name) for contender in chosen]
    with Board(console, name, chosen) as board:
        ended = parallel.run(works, slots, flags.storage, board.end, board.look)
    failed = {done.work.name for done in ended if done.code}
    finished = [contenders.read(one) for one in chosen if one.name not in failed]
    confirmed = sorted((one for one in finished if not one.contender.sealed), key=_rank)
    tau = _agreement(finished, flags.rank_sample)
    rows = [_row(one) for one in confirmed]
    agreement = describe_agreement(tau, recipe_epochs)
    wrote = bool(confirmed) or not (out / "confirm.json").exists()
    if wrote:
        document = json.dumps(_document(name, flags, rows, tau), indent=1) + "\n"
        replace(out / "confirm.json", document.encode())
        replace(out / "confirm.html", confirm_page.page(name, confirmed, finished, agreement).encode())
    show([{"rank": i, **row} for i, row in enumerate(rows, 1)])
    for line in ([IN_ITS_PLACE] if flags.seeds == 2 else []) + agreement:
        console.print(line)
    if wrote:
        console.print(f"wrote {out}: confirm.html, confirm.json, and a folder for each network")
    else:
        console.print(f"no training of the best came to its end: {out} keeps confirm.html and confirm.json")
    return 1 if failed else 0


def _rank(found: ConfirmedNetwork) -> float:
    return -found.scored.mean


def _trained_once(flags: Flags, chosen: Sequence[Contender]) -> list[str]:
    """A line for each reference of --also whose network is a contender by another name."""
    names = {one.name for one in chosen}
    trials = {one.asked_for: one.name for one in chosen if one.asked_for}
    others = [reference for reference in dict.fromkeys(flags.also) if reference not in names]
    return [
        f"--also {reference}: it is {trials[reference]}, and trained as that"
        if reference in trials
        else f"--also {reference}: a network that is confirmed already, and trained once"
        for reference in others
    ]


def _opened_before(storage: str, images: str, chosen: Sequence[Contender]) -> list[str]:
    """A line for each network whose test images were read already, in another folder than it has now: by the
    digest of the images and the fingerprint, as a study may be renamed, and another have its name."""
    with reader.open_store(storage) as engine:
        rows = [row for row in trainings.of_study(engine, None) if row.test_accuracy is not None]
    mine = [row for row in rows if row.data.get("digest") == images]
    found = []
    for contender in (contender for contender in chosen if not contender.sealed):
        here = str(contender.folder.resolve())
        folders = [row.folder for row in mine if row.fingerprint == contender.fingerprint]
        elsewhere = [folder for folder in dict.fromkeys(folders) if folder != here]
        if elsewhere:
            found.append(
                f"warning: test images were opened for {contender.name} before: {', '.join(elsewhere)}"
            )
    return found


def _work(contender: Contender, flags: Flags, study: str) -> TrainingProcess:
    given = [contender.reference, "--like", study, "--epochs", str(flags.epochs)]
    given += ["--seeds", str(contender.seeds), "--out", str(contender.folder), "--resume"]
    given += ["--data-dir", str(flags.data_dir)]
    here = {"SEARCH_DATA": flags.data} if flags.data and flags.data == settings.data_here() else {}
    given += ["--data", flags.data] if flags.data and not here else []  # typed: other images may be meant
    given += ["--no-test"] if contender.sealed else []
    return TrainingProcess(contender.name, tuple(given), contender.folder / "log.txt", here)


def _row(found: ConfirmedNetwork) -> dict[str, Any]:
    full, tested = found.validation, found.test
    return {
        "network": found.contender.name,
        "baseline": found.contender.baseline,
        "brief_score": found.contender.brief_score,
        "full_score": None if found.contender.score == "accuracy" else found.scored.mean,
        "brief_accuracy": found.contender.brief,
        "full_accuracy": full.mean,
        "full_interval": _interval(full),
        "full_by_seed": list(full.values),
        "test_accuracy": tested.mean if tested else None,
        "test_interval": _interval(tested) if tested else None,
        "test_by_seed": list(tested.values) if tested else None,
        "parameters": found.result["parameters"],
        "macs": found.result["macs"],
    }


def _interval(found: Spread) -> str | None:
    return str(found.interval) if found.interval else None


def _agreement(finished: Sequence[ConfirmedNetwork], rank_sample: int) -> Correlation | None:
    """Between brief scores and full ones of the first seed, for all that were trained both ways."""
    both = [one for one in finished if one.contender.brief is not None]
    if rank_sample < 2:
        return None
    return correlation(
        [one.contender.brief_value or 0.0 for one in both], [one.scored.values[0] for one in both]
    )


def describe_agreement(tau: Correlation | None, epochs: int) -> list[str]:
    """What the agreement of brief and full scores means for the study."""
    if tau is None:
        return ["how far brief and full scores agree is not known: it takes four networks of unlike scores"]
    low, high = tau.interval
    lines = [
        f"brief and full scores: Kendall's tau {tau.tau:.2f} (95% {low:.2f} to {high:.2f},"
        f" {tau.networks} networks)"
    ]
    trials = f"trials of {counted(epochs, 'epoch')}"
    if tau.tau < LOW:
        lines.append(
            f"warning: {trials} say little of the order of full trainings;"
            f" search again with --epochs {2 * epochs} or more"
        )
    elif low <= 0:
        lines.append(
            f"warning: {tau.networks} networks say too little of whether {trials} order them as full"
            " trainings do; give a larger --rank-sample"
        )
    return lines


def _document(
    name: str, flags: Flags, ranked: list[dict[str, Any]], tau: Correlation | None
) -> dict[str, Any]:
    agreement = tau and {"tau": tau.tau, "interval_95": tau.interval, "networks": tau.networks}
    return {
        "format": "parsimony.confirm/1",
        "study": name,
        "epochs": flags.epochs,
        "seeds": flags.seeds,
        "ranked": ranked,
        "brief_against_full": agreement,
    }
