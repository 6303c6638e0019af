"""`carnet check-source`: rules about our source code that no other linter knows.

Two rules of transactions: only `shared` commits, and only `shared` writes into an outbox. And
figures of readability, each with a limit. Tests and migrations are not measured.
"""

import ast
import re
import subprocess
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import quantiles

import typer

ROOT = Path(__file__).parents[2]
PACKAGES = ("shared", "gateway", "services", "deploy")
UNMEASURED = {"tests", "migrations"}

_IRREGULAR_WORDS = """
begun born bought bound broken brought built caught chosen done drawn driven fallen forgotten found
frozen given gone got grown heard held hidden kept known laid led left lent lost made meant met paid
risen said seen sent shaken shown sold spent spoken stolen stood struck stuck sunk swept taken
taught thought thrown told torn understood woken won worn written
"""
_USUAL_WORDS = """
bed feed need red seed shed speed
elapsed expected unexpected parsed encoded decoded unused allowed required normalized signed started
ended expired cached uncached
"""
IRREGULAR = frozenset(_IRREGULAR_WORDS.split())
USUAL = frozenset(_USUAL_WORDS.split())
"""Words that end like a participle and are none, and the field's usual names of values."""

TELLING = re.compile(r"\b(?:tell|tells|telling|told|say|says|saying|said)\b", re.IGNORECASE)

Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class SourceFile:
    """A module: its path relative to the checkout's root, its text and its syntax tree."""

    path: Path
    text: str
    tree: ast.Module

    @classmethod
    def parse(cls, path: Path, text: str) -> "SourceFile":
        """Return the module with this text; raises SyntaxError."""
        return cls(path, text, ast.parse(text))

    @property
    def package(self) -> str:
        """Return the package in which the names of public types are unique."""
        parts = self.path.parts
        return "/".join(parts[:2]) if parts[0] == "services" else parts[0]

    def functions(self) -> Iterator[Function]:
        """Yield every function and method."""
        return (node for node in ast.walk(self.tree) if isinstance(node, Function))


@dataclass(frozen=True)
class Figure:
    """A measured figure: `places` is what counts against the limit."""

    title: str
    value: float
    limit: float
    places: list[str]


def source_files(root: Path) -> list[SourceFile]:
    """Return every module of ours under a checkout's root, without tests and migrations."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "--", "*.py"]
    listing = subprocess.run(command, cwd=root, check=True, capture_output=True, text=True)
    paths = [Path(line) for line in sorted(listing.stdout.splitlines())]
    return [
        SourceFile.parse(path, (root / path).read_text())
        for path in paths
        if path.parts[0] in PACKAGES
        and not UNMEASURED.intersection(path.parts)
        and (root / path).exists()
    ]


def transaction_violations(files: Iterable[SourceFile]) -> list[str]:
    """Return where code outside `shared` commits or writes into an outbox.

    The upgrade and the proofs in `deploy` work on databases of their own and are not concerned.
    """
    return [
        f"{file.path}:{line}: only shared may {what}"
        for file in files
        if file.path.parts[0] in ("services", "gateway")
        for line, text in enumerate(file.text.splitlines(), start=1)
        for what, pattern in (
            ("commit a transaction", r"\.commit\("),
            ("write into an outbox", r"(?i)\binto outbox\b"),
        )
        if re.search(pattern, text)
    ]


def is_participle(name: str) -> bool:
    """Return whether a local name is one word that is a past participle, such as `told`."""
    word = name.strip("_")
    if word in IRREGULAR:
        return True
    return word.isalpha() and word.endswith("ed") and word not in USUAL


def local_names(function: Function) -> set[str]:
    """Return the names that a function itself assigns, without those of functions inside it."""

    def own(node: ast.AST) -> Iterator[ast.AST]:
        for child in ast.iter_child_nodes(node):
            if not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                yield child
                yield from own(child)

    return {
        node.id
        for node in own(function)
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
    }


def participles(files: Iterable[SourceFile]) -> Figure:
    """Measure the share of local names that are bare participles."""
    names = [
        (name, f"{file.path}:{function.lineno} {name}")
        for file in files
        for function in file.functions()
        for name in sorted(local_names(function))
    ]
    places = [place for name, place in names if is_participle(name)]
    return Figure("bare participles among local names, %", _percent(places, names), 0.5, places)


def telling(files: Iterable[SourceFile]) -> Figure:
    """Measure how often docstrings use a verb of telling, per 1,000 words."""
    words = 0
    places = []
    for file in files:
        for node in ast.walk(file.tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Module):
                text = ast.get_docstring(node) or ""
                words += len(re.findall(r"[A-Za-z]+", text))
                place = f"{file.path}:{getattr(node, 'lineno', 1)}"
                places += [f"{place} {match.group()}" for match in TELLING.finditer(text)]
    value = 1000 * len(places) / max(words, 1)
    return Figure("verbs of telling per 1,000 words of docstrings", value, 0.5, places)


def single_use_helpers(files: Iterable[SourceFile]) -> Figure:
    """Measure the share of functions that are private and used once in their module."""
    places = []
    functions = []
    for file in files:
        uses: Counter[str] = Counter()
        for node in ast.walk(file.tree):
            if isinstance(node, ast.Name):
                uses[node.id] += 1
            elif isinstance(node, ast.Attribute):
                uses[node.attr] += 1
        for function in file.functions():
            functions.append(function)
            name = function.name
            if name.startswith("_") and not name.startswith("__") and uses[name] == 1:
                places.append(f"{file.path}:{function.lineno} {name}")
    return Figure(
        "private helpers used once, % of functions", _percent(places, functions), 15, places
    )


def function_lengths(files: Iterable[SourceFile]) -> Figure:
    """Measure the length that 95 % of the functions do not exceed, in lines."""
    lengths = {
        f"{file.path}:{function.lineno} {function.name}": _lines(function)
        for file in files
        for function in file.functions()
    }
    value = quantiles(lengths.values(), n=20)[-1] if len(lengths) > 1 else 0
    places = [f"{place}: {lines} lines" for place, lines in lengths.items() if lines > 30]
    return Figure("lines of a function, 95th percentile", value, 30, places)


def file_lengths(files: Iterable[SourceFile]) -> Figure:
    """Measure the number of lines of the longest file."""
    lengths = {file.path: file.text.count("\n") for file in files}
    places = [f"{path}: {lines} lines" for path, lines in lengths.items() if lines > 400]
    return Figure("lines of the longest file", max(lengths.values(), default=0), 400, places)


def repeated_types(files: Iterable[SourceFile]) -> Figure:
    """Count the public types whose name another type of the same package has."""
    homes: defaultdict[tuple[str, str], list[str]] = defaultdict(list)
    for file in files:
        for node in file.tree.body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                homes[file.package, node.name].append(str(file.path))
    places = [f"{name}: {', '.join(paths)}" for (_, name), paths in homes.items() if len(paths) > 1]
    return Figure("public types that share a name inside a package", len(places), 0, places)


FIGURES: tuple[Callable[[Iterable[SourceFile]], Figure], ...] = (
    participles,
    telling,
    single_use_helpers,
    function_lengths,
    file_lengths,
    repeated_types,
)

app = typer.Typer()


@app.command()
def check_source(
    places: bool = typer.Option(False, help="List every place that counts against a limit."),
) -> None:
    """Check the rules of transactions and the figures of readability; exit with 1 if one fails."""
    files = source_files(ROOT)
    problems = transaction_violations(files)
    for problem in problems:
        print(problem)
    for measure in FIGURES:
        figure = measure(files)
        is_exceeded = figure.value > figure.limit
        mark = "  TOO MANY" if is_exceeded else ""
        print(f"{figure.title}: {figure.value:.3g} (at most {figure.limit:g}){mark}")
        if places or is_exceeded:
            print("".join(f"  {place}\n" for place in figure.places), end="")
        if is_exceeded:
            problems.append(figure.title)
    if problems:
        raise typer.Exit(1)


def _percent(part: list[str], whole: list[tuple[str, str]] | list[Function]) -> float:
    return 100 * len(part) / max(len(whole), 1)


def _lines(function: Function) -> int:
    return (function.end_lineno or function.lineno) - function.lineno + 1
