"""Measures the code for the tables of docs/design.md: rooms and their sizes, files that one search enters.

    python -m benchmarks.structure rooms [--root CHECKOUT]
    python -m benchmarks.structure trace [--root CHECKOUT]

`rooms` reads the sources: files, lines, the longest file and function of each folder. `trace` runs a search
of one trial on digits and an export in a temporary folder, with a trace hook in each process, and lists
the files of the project whose functions were called; bodies of modules and classes do not count. Prints
Markdown, keeps nothing. With --root it measures another checkout, such as an older commit's.
"""

import argparse
import ast
import json
import os
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

PACKAGES = ("space", "storage", "trainer", "search", "parsimony")
LAUNCH = "launch --trials 1 --data digits --epochs 2 --max-macs 4M --workers 1 --gpus none --study s"
STORE = ("--storage", "sqlite:///s.db", "--data-dir", "data")
HOOK = """
import atexit, json, os, sys, threading
ROOT, OUT, seen = os.environ["TRACE_ROOT"] + os.sep, os.environ["TRACE_OUT"], set()
def look(frame, event, argument):  # of calls alone, as it returns no trace of the lines
    code = frame.f_code
    is_function = code.co_flags & 1  # CO_OPTIMIZED: neither a module's nor a class's body
    if is_function and code.co_filename.startswith(ROOT):
        seen.add(code.co_filename[len(ROOT):])
def write():
    sys.settrace(None)
    with open(os.path.join(OUT, f"{os.getpid()}.json"), "w") as file:
        json.dump([sys.argv[1:2], sorted(seen)], file)
def leave(code, leave=os._exit):
    write()
    leave(code)
atexit.register(write)
os._exit = leave
threading.settrace(look)
sys.settrace(look)
"""


def sources(root: Path) -> dict[str, list[Path]]:
    """The Python files of the packages, by folder; an empty __init__.py is none."""
    found = defaultdict(list)
    for package in PACKAGES:
        for path in sorted((root / package).rglob("*.py")):
            if path.name != "__init__.py":
                found[str(path.parent.relative_to(root))].append(path)
    return found


def functions(path: Path) -> Iterator[tuple[int, str]]:
    """Lines and name of each function."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield (node.end_lineno or 0) - node.lineno + 1, node.name


def rooms(root: Path) -> Iterator[str]:
    """A row for each folder that holds modules."""
    yield "| Folder | Files | Lines | Longest file | Longest function |"
    yield "| --- | --- | --- | --- | --- |"
    for folder, paths in sources(root).items():
        lines = {path.name: len(path.read_text(encoding="utf-8").splitlines()) for path in paths}
        longest = max(lines, key=lambda name: lines[name])
        length, name = max((found for path in paths for found in functions(path)), default=(0, "-"))
        yield (
            f"| `{folder}/` | {len(paths)} | {sum(lines.values()):,} | {longest} {lines[longest]}"
            f" | {name} {length} |"
        )


def trace(root: Path) -> Iterator[str]:
    """What launcher, worker and export entered: files and lines of them, by folder, then the files."""
    with tempfile.TemporaryDirectory() as folder:
        place, out, hook = (Path(folder) / name for name in ("place", "out", "hook"))
        for made in (place, out, hook):
            made.mkdir()
        (hook / "sitecustomize.py").write_text(HOOK)
        kept = {name: value for name, value in os.environ.items() if not name.startswith("SEARCH_")}
        path = os.pathsep.join((str(hook), str(root)))
        environment = kept | {"PYTHONPATH": path, "TRACE_ROOT": str(root), "TRACE_OUT": str(out)}
        for command in (LAUNCH.split(), ["export", "s", "--out", "best.json"]):
            called = [sys.executable, "-m", "search", *command, *STORE]
            subprocess.run(called, cwd=place, env=environment, stdout=sys.stderr, check=True)
        for written in sorted(out.iterdir(), key=lambda path: path.stat().st_mtime):
            (command, *_), entered = json.loads(written.read_text()) if written.stat().st_size else ([""], [])
            if command in ("launch", "worker", "export"):
                yield from _entered(root, command, [name for name in entered if (root / name).is_file()])


def _entered(root: Path, command: str, entered: list[str]) -> Iterator[str]:
    by_folder = defaultdict(list)
    for name in entered:
        by_folder[str(Path(name).parent)].append(Path(name).name)
    lines = sum(len((root / name).read_text(encoding="utf-8").splitlines()) for name in entered)
    yield f"\n`search {command}`: {len(entered)} files of {lines:,} lines in {len(by_folder)} folders\n"
    for folder, names in sorted(by_folder.items()):
        yield f"- `{folder}/`: {', '.join(name.removesuffix('.py') for name in names)}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("what", choices=["rooms", "trace"])
    parser.add_argument("--root", type=Path, default=Path(__file__).parent.parent)
    given = parser.parse_args()
    for line in (rooms if given.what == "rooms" else trace)(given.root.resolve()):
        print(line)


if __name__ == "__main__":
    main()
