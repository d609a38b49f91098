"""Docstrings say what the house asks of them. `make lint` runs this file; it reads source, and imports none.

- A module opens with a sentence.
- A function of trainer/ that takes or returns a tensor states a shape, as `(N, C, H, W)`, `(N,)`, `()` for a
  scalar or `(...)` for any, and a type of its elements.
- A public function names each of the project's errors that it raises, itself or in functions of its module
  that it calls, and no error that does not exist. Commands are free of it: their docstring is a help text,
  their errors are exit codes. Errors of libraries are written with their module:
  `pydantic.ValidationError`.
- An error class has a sentence of its own.

pydoclint's rules (ruff DOC) ask for sections of Returns and Raises in each docstring; here they are prose.
"""

import ast
import builtins
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# What is held: folders or files below the root.
HELD = ("parsimony", "storage", "trainer", "search", "space", "benchmarks")
# Inside of what is held, and not yet there.
NOT_YET: tuple[str, ...] = ()
OF_TENSORS = "trainer"

SENTENCE = re.compile(r"\A[\"'`(]?[A-Z0-9].*?\.(\s|\Z)", re.DOTALL)
WORDS_OF_A_SENTENCE = 4
AXIS = r"[A-Za-z0-9_.+*/ -]+"
SHAPE = re.compile(rf"\(\)|\(\.\.\.\)|\({AXIS},\)|\({AXIS}(?:, ?{AXIS})+\)")
ELEMENTS = re.compile(
    r"\b(float32|floats?|bfloat16|uint8|bytes|int64|bool|indices|integers|dtype|any type|same type)\b",
    re.IGNORECASE,
)
AN_ERROR = re.compile(r"(?<![\w.])[A-Z]\w*(?:Error|Problem)\b")

Function = ast.FunctionDef | ast.AsyncFunctionDef


@cache
def tree_of_errors() -> dict[str, str]:
    """Each error of the project with its base."""
    tree = ast.parse((ROOT / "space/errors.py").read_text(encoding="utf-8"))
    return {node.name: ast.unparse(node.bases[0]) for node in tree.body if isinstance(node, ast.ClassDef)}


@cache
def errors_elsewhere() -> frozenset[str]:
    """Errors that packages define beside the tree, of the tree or of their own."""
    trees = (ast.parse((ROOT / where).read_text(encoding="utf-8")) for where in held())
    names = {node.name for tree in trees for node in ast.walk(tree) if isinstance(node, ast.ClassDef)}
    return frozenset(name for name in names if AN_ERROR.fullmatch(name))


def is_command(function: Function) -> bool:
    """Whether click makes a command of it."""
    return any(".command" in ast.unparse(one) for one in function.decorator_list)


def with_bases(name: str) -> set[str]:
    """An error of the project and all that it is a kind of."""
    found = {name, "Exception", "BaseException"}
    while name in tree_of_errors():
        name = tree_of_errors()[name]
        found.add(name)
    return found


@dataclass(frozen=True)
class Module:
    """One file: where it is, and its syntax."""

    where: str
    tree: ast.Module

    def faults(self) -> list[str]:
        """One line for each docstring that says too little."""
        found = [self._opening(), *self._error_classes()]
        for name, function, public in functions(self.tree):
            if self.where.startswith(OF_TENSORS):
                found.append(tensors(name, function))
            if public and not is_command(function):
                found += [self._raises(name, function), self._unknown(name, function)]
        return [f"{self.where}: {fault}" for fault in found if fault]

    def _opening(self) -> str | None:
        return None if is_sentence(ast.get_docstring(self.tree)) else "the module opens without a sentence"

    def _error_classes(self) -> Iterator[str | None]:
        for node in ast.walk(self.tree):
            if isinstance(node, ast.ClassDef) and any(
                AN_ERROR.fullmatch(base) or base in ("Exception", "BaseException")
                for base in map(ast.unparse, node.bases)
            ):
                yield None if is_sentence(ast.get_docstring(node)) else f"{node.name} has no sentence"

    def _raises(self, name: str, function: Function) -> str | None:
        missing = sorted(raised(function, self.tree) - set(AN_ERROR.findall(docstring(function))))
        return f"{name} raises {', '.join(missing)} and does not say so" if missing else None

    def _unknown(self, name: str, function: Function) -> str | None:
        named = set(AN_ERROR.findall(docstring(function)))
        known = named & (
            set(tree_of_errors()) | set(dir(builtins)) | imported(self.tree) | errors_elsewhere()
        )
        return (
            f"{name} names {', '.join(sorted(named - known))}, which is no error" if named - known else None
        )


def is_sentence(text: str | None) -> bool:
    first = SENTENCE.match(text or "")
    return first is not None and len(first.group().split()) >= WORDS_OF_A_SENTENCE


def docstring(function: Function) -> str:
    return ast.get_docstring(function) or ""


def functions(tree: ast.Module) -> Iterator[tuple[str, Function, bool]]:
    """Every function by its dotted name, and whether it and all that it stands in are public."""

    def inside(node: ast.AST, prefix: str, public: bool) -> Iterator[tuple[str, Function, bool]]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, Function):
                yield prefix + child.name, child, public and not child.name.startswith("_")
                yield from inside(child, f"{prefix}{child.name}.", False)
            elif isinstance(child, ast.ClassDef):
                seen = public and not child.name.startswith("_")
                yield from inside(child, f"{prefix}{child.name}.", seen)
            else:
                yield from inside(child, prefix, public)

    return inside(tree, "", True)


def tensors(name: str, function: Function) -> str | None:
    """A fault where a function of tensors states no shape or no type of elements."""
    arguments = function.args
    every = [
        *arguments.posonlyargs,
        *arguments.args,
        *arguments.kwonlyargs,
        arguments.vararg,
        arguments.kwarg,
    ]
    notes = [one.annotation for one in every if one and one.annotation] + [function.returns]
    if not any(re.search(r"\bTensor\b", ast.unparse(note)) for note in notes if note):
        return None
    text = docstring(function)
    missing = [
        what
        for what, pattern in (("shape", SHAPE), ("type of elements", ELEMENTS))
        if not pattern.search(text)
    ]
    return f"{name} takes or returns tensors and states no {' and no '.join(missing)}" if missing else None


def raised(function: Function, tree: ast.Module) -> set[str]:
    """The project's errors that leave a function, by itself or by functions of its module that it calls."""
    local = {node.name: node for node in tree.body if isinstance(node, Function)}
    methods = {
        method: {one.name: one for one in node.body if isinstance(one, Function)}
        for node in tree.body
        if isinstance(node, ast.ClassDef)
        for method in node.body
        if isinstance(method, Function)
    }

    def of(one: Function, seen: frozenset[Function]) -> set[str]:
        return set().union(*(leaving(node, seen | {one}, methods.get(one, {})) for node in one.body))

    def leaving(node: ast.AST, seen: frozenset[Function], mine: dict[str, Function]) -> set[str]:
        if isinstance(node, Function | ast.Lambda | ast.ClassDef):
            return set()  # it runs another time
        if isinstance(node, ast.Try):
            inner = set().union(*(leaving(child, seen, mine) for child in [*node.body, *node.orelse]))
            kept = {error for error in inner if not with_bases(error) & caught(node)}
            others = [child for handler in node.handlers for child in handler.body] + node.finalbody
            return kept.union(*(leaving(child, seen, mine) for child in others))
        found = set().union(*(leaving(child, seen, mine) for child in ast.iter_child_nodes(node)))
        if isinstance(node, ast.Raise) and node.exc is not None:
            error = node.exc.func if isinstance(node.exc, ast.Call) else node.exc
            found |= {ast.unparse(error).rpartition(".")[2]} & set(tree_of_errors())
        called = called_by(node, local, mine)
        return found | (of(called, seen) if called and called not in seen else set())

    return of(function, frozenset())


def called_by(node: ast.AST, local: dict[str, Function], mine: dict[str, Function]) -> Function | None:
    """The function of the same module, or the method of the same class, that a call means."""
    if not isinstance(node, ast.Call):
        return None
    if isinstance(node.func, ast.Name):
        return local.get(node.func.id)
    ours = isinstance(node.func, ast.Attribute) and ast.unparse(node.func.value) in ("self", "cls")
    return mine.get(node.func.attr) if isinstance(node.func, ast.Attribute) and ours else None


def caught(node: ast.Try) -> set[str]:
    """The names of the errors that do not get past a try."""
    found = set[str]()
    for handler in node.handlers:
        if any(isinstance(one, ast.Raise) and one.exc is None for one in ast.walk(handler)):
            continue
        kinds = handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type]
        found |= {ast.unparse(kind).rpartition(".")[2] if kind else "BaseException" for kind in kinds}
    return found


def imported(tree: ast.Module) -> set[str]:
    """Names that a module brings in from others, or makes."""
    found = {node.name for node in ast.walk(tree) if isinstance(node, ast.ClassDef)}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            found |= {alias.asname or alias.name for alias in node.names}
    return found


def held(parts: tuple[str, ...] = HELD, but: tuple[str, ...] = NOT_YET) -> Iterator[str]:
    for part in parts:
        paths = [ROOT / part] if part.endswith(".py") else sorted((ROOT / part).rglob("*.py"))
        for path in paths:
            where = path.relative_to(ROOT).as_posix()
            if not any(where == one or where.startswith(f"{one}/") for one in but):
                yield where


def module(where: str) -> Module:
    return Module(where, ast.parse((ROOT / where).read_text(encoding="utf-8")))


@pytest.mark.thorough  # make lint runs it
@pytest.mark.parametrize("where", list(held()))
def test_docstrings_of_a_module_say_what_a_caller_must_know(where: str) -> None:
    assert module(where).faults() == []


def faults(code: str, where: str = "trainer/made_up.py") -> list[str]:
    return [fault.partition(": ")[2] for fault in Module(where, ast.parse(code)).faults()]


OPENING = '"""A module that reads nothing."""\n'


@pytest.mark.parametrize(
    "opening", ["", '"""Drawer."""', '"""About tensors"""', '"""lower case it is here."""']
)
def test_a_module_without_a_sentence_is_found(opening: str) -> None:
    assert faults(opening) == ["the module opens without a sentence"]


@pytest.mark.parametrize(
    ("text", "missing"),
    [
        ("Turns images.", ["shape and no type of elements"]),
        ("Turns images (N, C, H, W).", ["type of elements"]),
        ("Turns images of bytes (of any size).", ["shape"]),
        ("Turns images (N, C, H, W) of bytes.", []),
        ("Labels (N,) int64.", []),
        ("Loss, () float32.", []),
    ],
)
def test_a_function_of_tensors_states_shape_and_elements(text: str, missing: list[str]) -> None:
    code = f'{OPENING}def _turn(x: "Tensor | None") -> None:\n    """{text}"""\n'
    assert faults(code) == [f"_turn takes or returns tensors and states no {what}" for what in missing]
    assert faults(code, "storage/made_up.py") == []


RAISING = '''
def open_it(path):
    """Opens it.{more}"""
    _check(path)

def _check(path):
    if path:
        raise errors.DataError("no")
'''


def test_an_error_that_a_private_function_raises_is_named_by_the_public_one() -> None:
    assert faults(OPENING + RAISING.format(more="")) == ["open_it raises DataError and does not say so"]
    assert faults(OPENING + RAISING.format(more=" Raises DataError.")) == []


def test_an_error_that_is_caught_on_the_way_needs_no_name() -> None:
    guarded = "try:\n        _check(path)\n    except {}:\n        pass"
    for kind, found in (("EnvironmentProblem", 0), ("(OSError, DataError)", 0), ("OSError", 1)):
        code = OPENING + RAISING.format(more="").replace("_check(path)\n", guarded.format(kind) + "\n", 1)
        assert len(faults(code)) == found


def test_an_error_that_does_not_exist_is_found() -> None:
    code = f'{OPENING}def read():\n    """Reads. Raises ReadError or OSError."""\n'
    assert faults(code) == ["read names ReadError, which is no error"]


def test_an_error_of_a_library_is_written_with_its_module() -> None:
    code = f'{OPENING}def read():\n    """Reads. Raises pydantic.ValidationError."""\n'
    assert faults(code) == []
    assert faults(code.replace("pydantic.", "")) == ["read names ValidationError, which is no error"]


def test_a_command_names_no_errors_in_its_help() -> None:
    code = OPENING + RAISING.format(more="")
    assert faults(code.replace("def open_it", "@click.command()\ndef open_it")) == []


def test_an_error_class_without_a_sentence_is_found() -> None:
    code = f'{OPENING}class LateError(DataError):\n    pass\n\nclass Other(Exception):\n    """Late."""\n'
    assert faults(code) == ["LateError has no sentence", "Other has no sentence"]
