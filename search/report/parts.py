"""Parts of a self-contained HTML page: its style, its frame with Plotly's script inside, and a figure.

Called by search/report/page.py (a study), search/report/data_page.py (a data set) and
search/training/report.py (a full training). Writes no file.
"""

from collections.abc import Sequence

import plotly.graph_objects as go
from plotly.offline import get_plotlyjs

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #111827; margin: 2rem auto; max-width: 1080px;
       padding: 0 1rem }
h1 { font-size: 1.6rem; margin-bottom: .2rem } h2 { font-size: 1.15rem; margin-top: 2.2rem }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums }
th, td { text-align: right; padding: .25rem .6rem; border-bottom: 1px solid #e5e7eb }
th:first-child, td:first-child, td.text, th.text { text-align: left }
.wide { overflow-x: auto } .wide td { white-space: nowrap }
.wide td.text { white-space: normal; min-width: 15rem }
.figures { display: flex; flex-wrap: wrap; gap: 1rem; margin: 1rem 0 }
.figure { background: #f3f4f6; border-radius: 8px; padding: .7rem 1.1rem }
.figure b { display: block; font-size: 1.4rem } .note { color: #6b7280 }
"""


VIEWPORT = '<meta name=viewport content="width=device-width, initial-scale=1">'  # as wide as a phone is


def html(title: str, parts: Sequence[str], figures: bool = True) -> str:
    """The whole page; `title` and `parts` are HTML already. Without `figures` it needs no Plotly."""
    head = f"<meta charset=utf-8>{VIEWPORT}<title>{title}</title><style>{STYLE}</style>"
    script = f"<script>{get_plotlyjs()}</script>" if figures else ""
    body = "\n".join(parts)
    return f"<!doctype html><html lang=en><head>{head}{script}</head><body>{body}</body></html>\n"


def draw(figure: go.Figure, height: int) -> str:
    """A figure as HTML; `height` in pixels."""
    figure.update_layout(template="plotly_white", height=height, margin={"l": 60, "r": 20, "t": 20, "b": 50})
    drawn: str = figure.to_html(full_html=False, include_plotlyjs=False, config={"displaylogo": False})
    return drawn
