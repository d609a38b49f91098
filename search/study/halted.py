"""Why nobody is to work on a study, and what goes on with it, in one line.

A pure function of the study's order. Called by `search status` and by the launcher for its board.
"""

import shlex

HALTED = {  # by the order that was given to a study's workers
    "pause": "paused by `search pause`",
    "stop": "stopped by `search stop`",
    "stop_now": "stopped by `search stop --now`",
}


def halted(name: str, order: str, gave_up: str = "") -> str:
    """Which order holds the study up, or why it ended by itself; empty where nothing holds it up."""
    why = gave_up or HALTED.get(order)
    return f"{why}{';' if gave_up else ':'} `search resume {shlex.quote(name)}` goes on" if why else ""
