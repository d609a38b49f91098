"""docs/design.md lists every private name of Optuna that we touch, and where."""

import ast
import importlib
import inspect
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
ROOMS = ("search/optuna_adapter", "search/recording")
OURS = {"_mapping", "_replace"}  # of SQLAlchemy, which documents it, and of named tuples


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


def touched(path: Path) -> set[str]:
    """Private modules and names that are imported of Optuna, private attributes that are not our own, and
    private methods of Optuna that we replace."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    module = importlib.import_module(".".join(path.relative_to(ROOT).with_suffix("").parts))
    classes = dict(inspect.getmembers(module, inspect.isclass))
    found = set[str]()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("optuna"):
            found |= {part for part in (node.module or "").split(".") if is_private(part)}
            found |= {alias.name for alias in node.names if is_private(alias.name)}
        elif isinstance(node, ast.Attribute) and is_private(node.attr):
            if not (isinstance(node.value, ast.Name) and node.value.id in ("self", "cls")):
                found.add(node.attr)
        elif isinstance(node, ast.ClassDef):
            found |= _inherited(node, classes[node.name])
    return found - OURS - _own(tree)


def _own(tree: ast.Module) -> set[str]:
    """Attributes that our classes give themselves in __init__."""
    return {
        target.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign | ast.AnnAssign)
        for target in ast.walk(node.targets[0] if isinstance(node, ast.Assign) else node.target)
        if isinstance(target, ast.Attribute) and isinstance(target.value, ast.Name)
        if target.value.id == "self" and target.attr != "_search_space"  # that one is Optuna's
    } - {"_storage", "_study_id"}


def _inherited(node: ast.ClassDef, made: type) -> set[str]:
    """What it uses of itself, or replaces, that comes from a class of Optuna's."""
    parents = [base for base in made.__mro__[1:] if base.__module__.startswith("optuna.")]
    if not parents:
        return set()
    sources = "".join(inspect.getsource(base) for base in parents)
    used = {
        inner.attr
        for inner in ast.walk(node)
        if isinstance(inner, ast.Attribute) and is_private(inner.attr)
        if isinstance(inner.value, ast.Name) and inner.value.id == "self"
    }
    used |= {
        inner.name for inner in node.body if isinstance(inner, ast.FunctionDef) and is_private(inner.name)
    }
    return {name for name in used if re.search(rf"(self\.|def ){name}\b", sources)}


def listed() -> dict[str, set[str]]:
    """The table of the document: names by file."""
    text = (ROOT / "docs/design.md").read_text(encoding="utf-8")
    section = text.split("## Private names of Optuna")[1].split("\n## ")[0]
    rows = re.findall(r"^\| `([\w/]+\.py)` \| ([^|]+) \|", section, flags=re.MULTILINE)
    return {path: set(re.findall(r"`(\w+)`", names)) for path, names in rows}


def test_the_document_lists_what_the_code_touches() -> None:
    files = [path for room in ROOMS for path in sorted((ROOT / room).glob("*.py"))]
    found = {str(path.relative_to(ROOT / "search")): touched(path) for path in files}
    assert listed() == {path: names for path, names in found.items() if names}
