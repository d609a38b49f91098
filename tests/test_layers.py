"""parsimony -> search -> {trainer, storage} -> space: the arrows of the packages, and what each may load."""

import ast
import json
import os
import subprocess
import sys
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

from storage import database

ROOT = Path(__file__).parents[1]
MAY_IMPORT = {
    "space": {"space"},
    "storage": {"storage", "space"},
    "trainer": {"trainer", "space"},
    "search": {"search", "trainer", "storage", "space"},
    "parsimony": {"parsimony", "search", "trainer", "storage", "space"},
}
THIRD_PARTIES = {
    "space": {"pydantic", "pydantic_core"},
    "storage": {"sqlalchemy", "alembic", "psycopg"},
    "trainer": {"torch", "torchvision", "numpy", "pydantic", "PIL", "sklearn", "safetensors"},
}


def modules() -> dict[str, Path]:
    """Every module of the packages by its full name."""
    found = {}
    for package in MAY_IMPORT:
        for path in sorted((ROOT / package).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES = modules()


def imports(name: str) -> set[str]:
    """What a module imports anywhere: inside functions and for type checkers too."""
    found = set[str]()
    for node in ast.walk(ast.parse(MODULES[name].read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= _from(name, node)
    return found


def _from(name: str, node: ast.ImportFrom) -> set[str]:
    base = node.module or ""
    if node.level:
        package = name if MODULES[name].name == "__init__.py" else name.rpartition(".")[0]
        parents = package.split(".")
        base = ".".join([*parents[: len(parents) - node.level + 1], *([base] if base else [])])
    wanted = {f"{base}.{alias.name}" for alias in node.names}
    return {full if full in MODULES else base for full in wanted}


@pytest.mark.parametrize("name", MODULES)
def test_a_module_imports_only_from_its_own_layer_and_those_below(name: str) -> None:
    ours = {other.partition(".")[0] for other in imports(name)} & set(MAY_IMPORT)
    assert ours <= MAY_IMPORT[name.partition(".")[0]]


@pytest.mark.parametrize("name", [name for name in MODULES if name.partition(".")[0] in THIRD_PARTIES])
def test_a_lower_layer_uses_only_the_libraries_that_are_its_business(name: str) -> None:
    package = name.partition(".")[0]
    others = {other.partition(".")[0] for other in imports(name)} - set(MAY_IMPORT)
    assert others - sys.stdlib_module_names <= THIRD_PARTIES[package]


def test_modules_do_not_import_each_other_in_a_circle() -> None:
    graph = {name: imports(name) & set(MODULES) for name in MODULES}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


def test_the_reader_of_imports_sees_every_way_to_write_one() -> None:
    assert "space.cost" in imports("space.budget")  # from space import cost
    assert "space.errors" in imports("space.budget")  # from space.errors import ...
    assert "torch" in imports("trainer.model") and "torch" not in imports("space.cost")
    assert "search.commands.status" in imports("search.cli")


def run(code: str, *arguments: str, folder: Path) -> tuple[subprocess.CompletedProcess[str], set[str]]:
    """Runs Python in `folder`; the result, and the top-level modules that it loaded by its end."""
    listing = folder / "loaded.json"
    spy = (
        "import atexit, json, pathlib, sys\n"
        f"atexit.register(lambda: pathlib.Path({str(listing)!r}).write_text(json.dumps(list(sys.modules))))\n"
    )
    kept = {name: value for name, value in os.environ.items() if not name.startswith("SEARCH_")}
    done = subprocess.run(
        [sys.executable, "-c", spy + code, *arguments],
        cwd=folder,
        env={**kept, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    return done, {name.partition(".")[0] for name in json.loads(listing.read_text())}


SEARCH = "import runpy; runpy.run_module('search', run_name='__main__', alter_sys=True)"


def test_help_loads_none_of_the_heavy_libraries(tmp_path: Path) -> None:
    done, loaded = run(SEARCH, "--help", folder=tmp_path)
    assert done.returncode == 0 and "launch" in done.stdout, done.stderr
    assert loaded.isdisjoint({"torch", "torchvision", "optuna", "sqlalchemy", "pydantic", "numpy", "sklearn"})


@pytest.mark.parametrize(
    "command", ["launch", "status", "best", "trials", "export", "show", "worker", "compare"]
)
def test_help_of_a_command_loads_none_of_them_either(command: str, tmp_path: Path) -> None:
    done, loaded = run(SEARCH, command, "--help", folder=tmp_path)
    assert done.returncode == 0 and "--storage" in done.stdout, done.stderr
    assert loaded.isdisjoint({"torch", "torchvision", "optuna", "sqlalchemy", "pydantic"})


@pytest.mark.parametrize(
    "command",
    ["status", "list", *(pytest.param(one, marks=pytest.mark.thorough) for one in ("trials", "best"))],
)
@pytest.mark.parametrize("store", ["not there", "empty"])
def test_looking_at_a_store_without_studies_says_so_and_never_loads_torch(
    command: str, store: str, tmp_path: Path
) -> None:
    if store == "empty":
        engine = database.connect(f"sqlite:///{tmp_path / 'store.db'}")
        database.prepare(engine)
        engine.dispose()
    done, loaded = run(SEARCH, command, "--storage", "sqlite:///store.db", folder=tmp_path)
    if command == "list" and store == "empty":
        assert done.returncode == 0 and "search:" not in done.stderr
    else:
        assert done.returncode == (5 if store == "not there" else 2)
        assert done.stderr.startswith("search: ") and done.stderr.count("\n") == 1
    assert "sqlalchemy" in loaded
    assert loaded.isdisjoint({"torch", "torchvision", "optuna"})


def test_space_and_storage_load_neither_torch_nor_optuna(tmp_path: Path) -> None:
    lower = [name for name in MODULES if name.startswith(("space", "storage")) and "versions" not in name]
    # Alembic runs its own environment; it cannot be imported from outside.
    names = [name for name in lower if not name.endswith(".env")]
    done, loaded = run(f"import {', '.join(names)}", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert loaded.isdisjoint({"torch", "torchvision", "optuna", "trainer", "search"})
    assert {"space", "storage"} <= loaded


def test_space_loads_no_database_either(tmp_path: Path) -> None:
    names = [name for name in MODULES if name.partition(".")[0] == "space"]
    done, loaded = run(f"import {', '.join(names)}", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert loaded.isdisjoint({"torch", "numpy", "optuna", "sqlalchemy", "storage", "trainer", "search"})


def test_recipes_and_data_are_read_without_torch(tmp_path: Path) -> None:
    done, loaded = run(
        "import trainer.recipe.document, trainer.data.dataset, trainer.outcome", folder=tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert loaded.isdisjoint({"torch", "torchvision", "optuna", "sqlalchemy", "storage", "search"})


def test_parsimony_itself_loads_nothing_heavy(tmp_path: Path) -> None:
    done, loaded = run("import parsimony; print(dir(parsimony))", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    heavy = {"torch", "torchvision", "optuna", "sqlalchemy", "pydantic", "numpy", "pandas", "click", "search"}
    assert "parsimony" in loaded and loaded.isdisjoint(heavy)


def test_a_document_and_proposals_need_neither_torch_nor_a_database(tmp_path: Path) -> None:
    code = "import parsimony; print(parsimony.propose(budget=20_000, image_size=8, channels=1)[0].count())"
    done, loaded = run(code, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) <= 20_000
    assert loaded.isdisjoint({"torch", "torchvision", "optuna", "sqlalchemy", "pandas"})


# Which rooms of search/ a room may import from; settings and its own modules every room may.
ROOMS = {
    "search.commands": {
        "search.launcher", "search.worker", "search.training", "search.recording", "search.optuna_adapter",
        "search.report", "search.comparison", "search.study", "search.machine", "search.formats",
    },
    "search.launcher": {"search.recording", "search.optuna_adapter", "search.study", "search.machine"},
    "search.worker": {"search.recording", "search.optuna_adapter", "search.study", "search.machine"},
    "search.formats": {"search.training", "search.study"},
    "search.training": {"search.report", "search.study", "search.machine"},
    "search.recording": {"search.optuna_adapter", "search.study"},
    "search.optuna_adapter": {"search.study"},
    "search.report": {"search.comparison", "search.study"},
    "search.comparison": {"search.study"},
    "search.study": set(),
    "search.machine": set(),
}  # fmt: skip
ON_THE_GROUND = {"search", "search.cli", "search.settings", "search.__main__"}


def room_of(name: str) -> str:
    return ".".join(name.split(".")[:2])


@pytest.mark.parametrize("name", [name for name in MODULES if name.startswith("search.")])
def test_a_room_imports_only_from_the_rooms_below_it(name: str) -> None:
    if name in ON_THE_GROUND:
        return
    room = room_of(name)
    assert room in ROOMS, "a module of search/ that stands in no room"
    others = {room_of(other) for other in imports(name) if other.startswith("search")} - {room}
    assert others <= ROOMS[room] | {"search.settings"}


@pytest.mark.parametrize("name", [name for name in MODULES if name.startswith("search.")])
def test_private_names_of_optuna_stand_in_two_rooms_alone(name: str) -> None:
    if room_of(name) in ("search.optuna_adapter", "search.recording"):
        return
    ours = {"_asdict", "_exit"}  # of NamedTuple and of os
    found = {
        node.attr
        for node in ast.walk(ast.parse(MODULES[name].read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute) and node.attr.startswith("_") and not node.attr.startswith("__")
        if ast.unparse(node.value) not in ("self", "cls", "super()")
    }
    assert found <= ours
