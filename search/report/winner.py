"""The winner of a study: its figures, its network part by part, and how far it is ahead of a first guess.

Reads the report's data; returns HTML. Called by search/report/page.py.
"""

from collections.abc import Sequence

from search.report.data import ReportData, score
from search.report.network_drawing import drawing
from search.report.parts import boxes, paragraph, section, table
from search.study.export import Confirmation, confirmation
from search.study.second_stage import WITHOUT_TEST
from search.study.short_form import summary
from search.study.standing import describe
from search.study.statistics import Spread, wilson
from search.study.text import counted, over_seeds, percent
from space.architecture import Architecture
from storage.row_types import TRAINED, Candidate, State


def winner(data: ReportData) -> str:
    """The section; a sentence where no network was trained to the end."""
    best = data.winner
    if best is None:
        return section("winner", "The winner", ["<p>No network was trained to the end yet.</p>"])
    confirmed = confirmation(data.full, best, data.record, data.config, data.second)
    network = Architecture.parse(best.architecture)
    said = [
        boxes(_figures(data, best, confirmed)),
        _luck(data, confirmed),
        "<h3>The network</h3>",
        *drawing(network),
        *_against_baselines(data, confirmed is not None),
    ]
    return section("winner", f"The winner: trial {best.number}", said)


def _figures(data: ReportData, best: Candidate, confirmed: Confirmation | None) -> list[tuple[str, str]]:
    accuracy, budget = best.accuracy or 0.0, data.config.budget
    brief = f"validation accuracy after {counted(best.epochs or 0, 'epoch')}, 95% interval"
    brief += f" {wilson(accuracy, data.images)}"
    found = [*_confirmed_figures(confirmed)] if confirmed else []
    if best.score is not None:
        maximised = "of validation images, which the search maximised"
        found.append((f"{percent(best.score)} {data.scored}", maximised))
    found.append((percent(accuracy), f"brief {brief}" if confirmed else brief))
    here = data.standing.standing
    if here and here.ahead:
        what = "brief scores: " if confirmed else ""
        of = "" if data.config.score == "accuracy" else ", of accuracy"  # by which neither is the best
        said = f"{what}best proposal against the best baseline{of}, 95% interval {here.ahead}"
        found.append((f"{100 * here.ahead.points:+.1f} points", said))
    share = 100 * best.parameters / budget.max_parameters
    found.append((f"{best.parameters:,}", f"parameters, {share:.1f}% of {budget.max_parameters:,}"))
    limit = f", {100 * best.macs / budget.max_macs:.1f}% of {budget.max_macs:,}" if budget.max_macs else ""
    found.append((f"{best.macs:,}", f"multiply-accumulates an image{limit}"))
    return found


def _confirmed_figures(confirmed: Confirmation) -> list[tuple[str, str]]:
    epochs = counted(confirmed.epochs, "epoch")
    trained = f"{counted(confirmed.seeds, 'seed')} of {epochs}"
    full = f"validation accuracy, {trained}{_known(confirmed.validation)}"
    found = [(percent(confirmed.validation_accuracy), full)]
    if confirmed.test:
        images = f"{confirmed.test_images:,} test images"
        trained = f"{counted(confirmed.tested_seeds, 'seed')} of {epochs}"
        text = f"accuracy on {images}, {trained}{_known(confirmed.test)}"
        found.insert(0, (percent(confirmed.test.mean), text))
    return found


def _known(found: Spread) -> str:
    known = over_seeds(found, "95% interval of the mean")
    return f", {known}" if known else ""


def _luck(data: ReportData, confirmed: Confirmation | None) -> str:
    """What the accuracy does not say."""
    if confirmed and confirmed.test:
        return paragraph(
            "confirmed by full trainings; test images were read once for each, and chose nothing", note=True
        )
    if confirmed:
        return paragraph(f"confirmed by full trainings; {WITHOUT_TEST}", note=True)
    return paragraph(
        f"The interval holds the luck of these {data.images:,} validation images only. The network was chosen"
        f" among {len(data.trained):,} by {_chosen_by(data)} after a brief training, so expect somewhat less"
        " on new images; the test images were not read",
        note=True,
    )


def _chosen_by(data: ReportData) -> str:
    return "this same score" if data.config.score == "accuracy" else f"its {data.scored}"


def _against_baselines(data: ReportData, confirmed: bool) -> list[str]:
    """The line, and the baselines in a table; nothing for a study without any."""
    line = describe(data.standing, confirmed=confirmed, score=data.config.score)
    if line is None:
        return []
    guesses = [row for row in data.rows if row.baseline and row.state != State.REPEATED]
    guesses.sort(key=lambda row: -score(row))
    return [
        "<h3>Against a first guess</h3>",
        paragraph(line),
        _networks(data, guesses),
        paragraph(
            "Baselines are plain networks that a person would try first, as wide as the budget lets them be;"
            " no pruner stops them. Both scores are of the same validation images; the interval takes them"
            " for independent (Newcombe 1998), which is on the safe side",
            note=True,
        ),
    ]


def _networks(data: ReportData, rows: Sequence[Candidate]) -> str:
    """Trials in a table, each with the interval of its accuracy and its network in short."""
    images, scored = data.images, "" if data.config.score == "accuracy" else data.scored
    lines = [
        (
            row.number,
            *((percent(row.score),) if scored else ()),
            percent(row.accuracy),
            "-" if row.accuracy is None else wilson(row.accuracy, images),
            f"{row.parameters:,}",
            f"{row.macs:,}",
            named(row),
        )
        for row in rows
    ]
    head = (
        "trial",
        *((scored,) if scored else ()),
        "accuracy",
        "95% interval",
        "parameters",
        "MACs",
        "network",
    )
    return table(head, lines, text=("network",))


def named(row: Candidate) -> str:
    """The network in one line, between the name of a baseline and what kept it from its end."""
    name = f"{row.baseline}: " if row.baseline else ""
    fate = "" if row.state in TRAINED else f" ({row.state.value.replace('_', ' ')})"
    return f"{name}{summary(Architecture.parse(row.architecture))}{fate}"
