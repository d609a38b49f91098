"""The winner of a study: its figures, its network part by part, and how far it is ahead of a first guess.

Reads the report's data; returns HTML. Called by search/report/page.py.
"""

from collections.abc import Sequence
from html import escape
from math import log2, sqrt

from search.report.data import ReportData, score
from search.report.network_parts import Part, block_text, parts
from search.report.parts import boxes, paragraph, section, table
from search.study.export import Confirmation, confirmation
from search.study.short_form import LEGEND, summary
from search.study.standing import describe
from search.study.statistics import Interval, wilson
from search.study.text import counted, percent
from space import cost
from space.architecture import Architecture
from storage.row_types import TRAINED, Candidate, State

COLOURS = {"stem": "#8b5cf6", "tail": "#10b981", "head": "#10b981"}  # of a part; stages are blue
TALLEST, WIDEST = 54, 150  # of a drawn block in pixels, and of all blocks of a part


def winner(data: ReportData) -> str:
    """The section; a sentence where no network was trained to the end."""
    best = data.winner
    if best is None:
        return section("winner", "The winner", ["<p>No network was trained to the end yet.</p>"])
    confirmed = confirmation(data.full, best)
    network = Architecture.parse(best.architecture)
    said = [
        boxes(_figures(data, best, confirmed)),
        _luck(data, confirmed),
        "<h3>The network</h3>",
        f"<p>{escape(_capital(block_text(network)))}.</p>",
        _drawn(network),
        f"<p class=reading>{escape(_reading(network))}</p>",
        f"<p><code>{escape(summary(network))}</code></p>",
        _layers(network),
        *_against_baselines(data, confirmed is not None),
    ]
    return section("winner", f"The winner: trial {best.number}", said)


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _figures(data: ReportData, best: Candidate, confirmed: Confirmation | None) -> dict[str, str]:
    accuracy, budget = best.accuracy or 0.0, data.config.budget
    brief = f"validation accuracy after {counted(best.epochs or 0, 'epoch')}, 95% interval"
    brief += f" {wilson(accuracy, data.images)}"
    found = dict[str, str]()
    if confirmed:
        found |= _confirmed_figures(confirmed)
        brief = f"brief {brief}"
    if best.score is not None:
        found[f"{percent(best.score)} {data.scored}"] = "of validation images, which the search maximised"
    found[percent(accuracy)] = brief
    here = data.standing.standing
    if here and here.ahead:
        ahead = f"{100 * here.ahead.points:+.1f} points"
        what = "brief scores: " if confirmed else ""
        found[ahead] = f"{what}best proposal against the best baseline, 95% interval {here.ahead}"
    share = 100 * best.parameters / budget.max_parameters
    found[f"{best.parameters:,}"] = f"parameters, {share:.1f}% of {budget.max_parameters:,}"
    limit = f", {100 * best.macs / budget.max_macs:.1f}% of {budget.max_macs:,}" if budget.max_macs else ""
    found[f"{best.macs:,}"] = f"multiply-accumulates an image{limit}"
    return found


def _confirmed_figures(confirmed: Confirmation) -> dict[str, str]:
    trained = f"{counted(confirmed.seeds, 'seed')} of {counted(confirmed.epochs, 'epoch')}"
    full = f"validation accuracy, {trained}{_mean_of(confirmed.validation_interval_95)}"
    found = {percent(confirmed.validation_accuracy): full}
    if confirmed.test_accuracy is not None:
        images = f"{confirmed.test_images:,} test images"
        text = f"accuracy on {images}, {trained}{_mean_of(confirmed.test_interval_95)}"
        found = {percent(confirmed.test_accuracy): text} | found
    return found


def _mean_of(interval: tuple[float, float] | None) -> str:
    return f", 95% interval of the mean {Interval(*interval)}" if interval else ""


def _luck(data: ReportData, confirmed: Confirmation | None) -> str:
    """What the accuracy does not say."""
    if confirmed:
        return paragraph(
            "confirmed by full trainings; test images were read once for each, and chose nothing", note=True
        )
    return paragraph(
        f"The interval holds the luck of these {data.images:,} validation images only. The network was chosen"
        f" among {len(data.trained):,} by {_chosen_by(data)} after a brief training, so expect somewhat less"
        " on new images; the test images were not read",
        note=True,
    )


def _chosen_by(data: ReportData) -> str:
    return "this same score" if data.config.score == "accuracy" else f"its {data.scored}"


def _drawn(network: Architecture) -> str:
    found = parts(network)
    parameters, macs = (sum(part.parameters for part in found), sum(part.macs for part in found))
    largest = max(part.size for part in found)
    narrowest = min(min(part.widths) for part in found)
    rows = (_row(part, largest, narrowest, parameters, macs) for part in found)
    return f"<div class=network>{''.join(rows)}</div>"


def _row(part: Part, largest: int, narrowest: int, parameters: int, macs: int) -> str:
    maps = f"{part.size}×{part.size} map" if part.size > 1 else "one position"
    colour = COLOURS.get(part.name, "#3b82f6")
    return (
        f"<div class=part>{_slabs(part, largest, narrowest, colour)}"
        f"<div><b>{escape(_capital(part.name))}</b><small>{escape(part.text)}</small>"
        f"<small>{maps}</small></div>"
        f"<div class=shares>{_share('parameters', part.parameters, parameters)}"
        f"{_share('compute', part.macs, macs)}</div></div>"
    )


def _slabs(part: Part, largest: int, narrowest: int, colour: str) -> str:
    """A block is as high as the root of its map's side, and as thick as the logarithm of its channels."""
    height = 6 + (TALLEST - 6) * sqrt(part.size / largest)
    thick = [3 + 2.2 * log2(2 * width / narrowest) for width in part.widths]
    scale = min(1.0, WIDEST / (sum(thick) + 2 * len(thick)))
    at, drawn = 0.0, list[str]()
    for width in thick:
        y = (TALLEST - height) / 2 + 4
        drawn.append(
            f'<rect x="{at:.1f}" y="{y:.1f}" width="{scale * width:.1f}" height="{height:.1f}" rx="1.5"'
            f' fill="{colour}" fill-opacity=".85"/>'
        )
        at += scale * (width + 2)
    left = (170 - at) / 2
    return (
        f'<svg viewBox="0 0 170 {TALLEST + 8}" aria-hidden=true><g transform="translate({left:.1f} 0)">'
        f"{''.join(drawn)}</g></svg>"
    )


def _share(what: str, amount: int, total: int) -> str:
    share = 100 * amount / total if total else 0.0
    bar = f'<span class=bar><i style="width:{share:.1f}%"></i></span>'
    return f"<div class=share>{bar}<span title='{amount:,}'>{share:.1f}% {what}</span></div>"


def _reading(network: Architecture) -> str:
    size = f"{network.channels}×{network.image_size}×{network.image_size}"
    return (
        f"An image of {size} goes from top to bottom. Each bar is a block, the higher the larger its map, the"
        " thicker the more channels; on the right its share of parameters and of multiply-accumulates."
    )


def _layers(network: Architecture) -> str:
    head = ("layer", "kind", "output", "parameters", "MACs")
    rows = [
        (row.name, row.kind, f"{row.channels}×{row.size}×{row.size}", f"{row.parameters:,}", f"{row.macs:,}")
        for row in cost.layers(network)
    ]
    return (
        f"<details><summary>All {len(rows)} layers</summary>{table(head, rows, text=('kind',))}"
        f"<p class=note>{escape(LEGEND)}</p></details>"
    )


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
