"""A network drawn part by part as HTML: blocks as bars, shares of parameters and compute, a table of layers.

Reads an architecture; returns HTML. Called by the search's report (winner.py) and by the report of a full
training (search/training/report.py).
"""

from html import escape
from math import log2, sqrt

from search.report.network_parts import Part, block_text, parts
from search.report.parts import table
from search.study.short_form import LEGEND, summary
from space import cost
from space.architecture import Architecture

COLOURS = {"stem": "#8b5cf6", "tail": "#10b981", "head": "#10b981"}  # of a part; stages are blue
TALLEST, WIDEST = 54, 150  # of a drawn block in pixels, and of all blocks of a part


def drawing(network: Architecture) -> list[str]:
    """The network in words, drawn, in its short form, and its layers."""
    return [
        f"<p>{escape(_capital(block_text(network)))}.</p>",
        _drawn(network),
        f"<p class=reading>{escape(_reading(network))}</p>",
        f"<p><code>{escape(summary(network))}</code></p>",
        _layers(network),
    ]


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


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
