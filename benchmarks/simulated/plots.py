"""Two kinds of plot as SVG text, written by hand: nothing to install, and a diff can be read.

Reads a stage of benchmarks/results/search.json; called by document.py, which writes the files.
"""

from collections.abc import Sequence
from html import escape
from typing import Any

Stage = dict[str, Any]
COLOURS = ("#0b6e99", "#d1495b", "#2e933c", "#edae49", "#6a4c93", "#8c564b", "#555555", "#17becf")
CURVES = (  # of each world, as far as it has them
    "random",
    "tpe",
    "tpe, flat",
    "nsga-ii, population 20",
    "tpe + median, third, 10 start-up",
    "tpe + promotion, third",
    "tpe, reject",
    "none",
    "median, third, 10 start-up",
    "asha, third",
    "hyperband, third",
    "promotion, third",
)
STYLE = "font-family='sans-serif' font-size='12'"
LETTER = 6.4  # pixels, on average


def svg(width: float, height: float, parts: Sequence[str]) -> str:
    head = f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {width} {height}' {STYLE}>"
    white = f"<rect width='{width}' height='{height}' fill='white'/>"
    return "\n".join([head, white, *parts, "</svg>", ""])


def text(x: float, y: float, words: str, anchor: str = "start", extra: str = "") -> str:
    return f"<text x='{x:.1f}' y='{y:.1f}' text-anchor='{anchor}' {extra}>{escape(words)}</text>"


def line(x1: float, y1: float, x2: float, y2: float, colour: str = "#ccc", width: float = 1) -> str:
    return (
        f"<line x1='{x1:.1f}' y1='{y1:.1f}' x2='{x2:.1f}' y2='{y2:.1f}' stroke='{colour}'"
        f" stroke-width='{width}'/>"
    )


def ticks(low: float, high: float, about: int = 5) -> list[float]:
    """Round numbers from low to high."""
    span = max(high - low, 1e-9)
    steps = [base * 10.0**power for power in range(-5, 6) for base in (1, 2, 5)]
    step = next((step for step in steps if span / step <= about), span)
    first = -(-low // step)
    return [round((first + i) * step, 6) for i in range(int(high // step - first) + 1)]


def differences(stage: Stage) -> str:
    """Each strategy against the baseline, 95% intervals: filled at equal trials, hollow at equal cost."""
    arms = {name: arm for name, arm in stage["arms"].items() if name != stage["baseline"]}
    found = [
        arm[key] for arm in arms.values() for key in ("versus_at_trials", "versus_at_cost") if key in arm
    ]
    reach = max(100 * max((abs(one["mean"]) + one["half"] for one in found), default=0.0), 0.01)
    left = max([260, *(24 + LETTER * len(name) for name in arms)])
    width, top, row = 560 + left, 46, 26
    height = top + row * len(arms) + 40

    def x(points: float) -> float:
        return left + (points + reach) / (2 * reach) * (width - left - 30)

    parts = [text(12, 22, f"{stage['world']}: points of true accuracy against “{stage['baseline']}”")]
    for tick in ticks(-reach, reach):
        parts += [line(x(tick), top - 8, x(tick), height - 30, "#eee" if tick else "#888")]
        parts += [text(x(tick), height - 14, f"{tick:+g}" if tick else "0", "middle")]
    for i, (name, arm) in enumerate(arms.items()):
        y = top + row * i + 8
        parts.append(text(left - 12, y + 4, name, "end"))
        for key, offset, colour, fill in (
            ("versus_at_trials", -4, COLOURS[0], COLOURS[0]),
            ("versus_at_cost", 4, COLOURS[1], "white"),
        ):
            if one := arm.get(key):
                low, middle, high = (100 * (one["mean"] + k * one["half"]) for k in (-1, 0, 1))
                parts.append(line(x(low), y + offset, x(high), y + offset, colour, 2))
                parts.append(
                    f"<circle cx='{x(middle):.1f}' cy='{y + offset}' r='4' fill='{fill}' stroke='{colour}'/>"
                )
    share = round(100 * stage["equal_cost"])
    legend = (
        f"blue: after {stage['trials']} trials; red: at {share}% of the training of that many uniform ones"
    )
    parts.append(text(12, 38, legend, extra="fill='#555'"))
    return svg(width, height, parts)


def lines(stage: Stage) -> str:
    """True accuracy of the network that would be named: by trials on the left, by training on the right."""
    names = [name for name in CURVES if name in stage["arms"]][: len(COLOURS)]
    panels = (
        ("trials", [*stage["trials_grid"]], "by_trials"),
        ("training, % of uniform", [100 * share for share in stage["cost_grid"]], "by_cost"),
    )
    means = [
        100 * point["mean"]
        for name in names
        for _, _, key in panels
        for point in stage["arms"][name][key][1:]
        if point
    ]
    low, high = min(means, default=0.0), max(means, default=1.0)
    low, high = low - 0.05 * (high - low) - 0.01, high + 0.05 * (high - low) + 0.01
    parts = [text(12, 20, f"{stage['world']}: true accuracy of the chosen network, %, mean over seeds")]
    for number, (label, xs, key) in enumerate(panels):
        curves = [(name, stage["arms"][name][key]) for name in names]
        count = max((i + 1 for _, points in curves for i, point in enumerate(points) if point), default=1)
        known = [(name, points[:count]) for name, points in curves]
        parts += panel(70 + 400 * number, label, xs[:count], known, (low, high))
    for i, name in enumerate(names):
        x, y = 70 + 260 * (i % 3), 388 + 20 * (i // 3)
        parts += [line(x, y - 4, x + 22, y - 4, COLOURS[i], 3), text(x + 28, y, name)]
    return svg(840, 440, parts)


def panel(
    left: float, label: str, xs: list[float], curves: list[tuple[str, list[Any]]], limits: tuple[float, float]
) -> list[str]:
    """Axes and one line for each strategy, with a band of its 95% interval."""
    low, high = limits
    width, top, bottom = 340, 40, 330

    def place(x: float, y: float) -> tuple[float, float]:
        y = min(max(y, low), high)
        return left + x / max(xs) * width, bottom - (y - low) / (high - low) * (bottom - top)

    parts = [text(left + width / 2, bottom + 36, label, "middle")]
    for tick in ticks(low, high):
        _, y = place(0, tick)
        parts += [line(left, y, left + width, y, "#eee"), text(left - 6, y + 4, f"{tick:g}", "end")]
    for tick in ticks(0, max(xs)):
        x, _ = place(tick, low)
        parts += [line(x, bottom, x, bottom + 4, "#888"), text(x, bottom + 18, f"{tick:g}", "middle")]
    for colour, (_, points) in zip(COLOURS, curves, strict=False):
        known = [(x, 100 * p["mean"], 100 * p["half"]) for x, p in zip(xs, points, strict=True) if p]
        upper = [place(x, mean + half) for x, mean, half in known]
        lower = [place(x, mean - half) for x, mean, half in reversed(known)]
        band = " ".join(f"{x:.1f},{y:.1f}" for x, y in [*upper, *lower])
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in (place(x, mean) for x, mean, _ in known))
        parts.append(f"<polygon points='{band}' fill='{colour}' opacity='0.12'/>")
        parts.append(f"<polyline points='{path}' fill='none' stroke='{colour}' stroke-width='2'/>")
    return parts
