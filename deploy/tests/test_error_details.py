"""Every error detail that a client can read is made of full sentences.

A sentence begins with a capital and ends with a full stop. The reason of `Forbidden(…)` is one or
more sentences after "Not authorized.". The message of `Invalid(field, …)` is a rule that continues
"The field name …": `errors[].message` of the OpenAPI document. A validator's ValueError is such a
rule too, or what follows "is not valid:" (see `shared.validation`).
"""

import ast
import importlib
import pkgutil
import re
from collections.abc import Iterator
from types import ModuleType

import pytest

import gateway
import services
import shared
from deploy.local.system import CHECKOUT, SERVICES
from shared.errors import AppError, Invalid, field_error, field_sentence

Kinds = dict[str, type[AppError]]

PACKAGES = (shared, services, gateway)
AREAS = ("shared", "gateway", *(f"services/{name}" for name in SERVICES))
ERRORS = "shared/errors.py"  # puts the sentences together
KEYWORDS = ("detail", "reason", "message")
VALIDATORS = (
    "shared/fields.py",
    "shared/money.py",
    "shared/card_tokens.py",
    "shared/public_addresses.py",
    "services/vouchers/external/calendar_addresses.py",
)
# An insertion, such as a count or a date, may begin a sentence.
SENTENCES = re.compile(r"(?s)(?:[A-Z{].*)[.!?]")
CLAUSE = re.compile(r"[a-z{].*[^.!?\s]", re.DOTALL)
RULE = re.compile(r"(?:must|is|has|was|were|does|needs|holds)\b.*[^.!?\s]", re.DOTALL)


def modules_of(package: ModuleType) -> Iterator[str]:
    """Yield the names of a package's modules, without tests and migrations."""
    for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
        if not {"tests", "versions", "migrations"} & set(module.name.split(".")):
            yield module.name


def all_errors() -> list[type[AppError]]:
    """Import everything and return all subclasses of AppError."""
    for package in PACKAGES:
        for name in modules_of(package):
            importlib.import_module(name)

    def below(kind: type[AppError]) -> Iterator[type[AppError]]:
        for child in kind.__subclasses__():
            yield child
            yield from below(child)

    errors = dict.fromkeys(below(AppError))
    return [error for error in errors if ".tests" not in error.__module__]


def text_of(node: ast.expr) -> str | None:
    """Return the text of a literal, `{}` for each insertion; None for any other expression."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(
            str(part.value) if isinstance(part, ast.Constant) else "{}" for part in node.values
        )
    return None


def texts_of(node: ast.expr, names: dict[str, list[str]]) -> list[str]:
    """Return every text that an argument may have: literals, choices, and local variables."""
    if isinstance(node, ast.IfExp):
        return [*texts_of(node.body, names), *texts_of(node.orelse, names)]
    if isinstance(node, ast.Name):
        return names.get(node.id, [])
    text = text_of(node)
    return [] if text is None else [text]


def name_of(call: ast.Call) -> str:
    """Return the name of what is called, without its module."""
    return call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")


def calls_in(tree: ast.Module, kinds: Kinds) -> Iterator[tuple[ast.Call, type[AppError]]]:
    """Yield every call that makes an error, and every `super().__init__` of an error's class."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and name_of(node) in kinds:
            yield node, kinds[name_of(node)]
        elif isinstance(node, ast.ClassDef) and node.name in kinds:
            for inner in ast.walk(node):
                if isinstance(inner, ast.Call) and ast.unparse(inner.func) == "super().__init__":
                    yield inner, kinds[node.name].__mro__[1]


def details_in(tree: ast.Module, kinds: Kinds) -> Iterator[tuple[int, str, bool]]:
    """Yield the line and the text of each detail in a module, and whether it is a field's rule."""
    names: dict[str, list[str]] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            names.setdefault(node.targets[0].id, []).extend(texts_of(node.value, {}))
    for call, kind in calls_in(tree, kinds):
        arguments = call.args[1:2] if kind is Invalid else call.args[:1]
        arguments += [each.value for each in call.keywords if each.arg in KEYWORDS]
        for argument in arguments:
            for text in texts_of(argument, names):
                yield call.lineno, text, kind is Invalid


def rules_in(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Yield the line and the text of each ValueError of a module of validators."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and name_of(node) == "ValueError" and node.args:
            for text in texts_of(node.args[0], {}):
                yield node.lineno, text


def wrong_details(area: str) -> list[str]:
    """Return the details and rules of an area's code that are not in their form."""
    kinds = {error.__name__: error for error in all_errors()}
    wrong = []
    for path in sorted((CHECKOUT / area).rglob("*.py")):
        place = path.relative_to(CHECKOUT)
        if {"tests", "migrations"} & set(place.parts):
            continue
        tree = ast.parse(path.read_text(encoding="utf-8"))
        details = [] if place.as_posix() == ERRORS else list(details_in(tree, kinds))
        if place.as_posix() in VALIDATORS or "schemas" in place.as_posix():
            rules = rules_in(tree)
            wrong += [f"{place}:{n}: {text}" for n, text in rules if not CLAUSE.fullmatch(text)]
        wrong += [
            f"{place}:{line}: {text}"
            for line, text, is_rule in details
            if not (RULE.fullmatch(text) if is_rule else is_sentences(text))
        ]
    return wrong


def is_sentences(text: str) -> bool:
    """Return whether a text is made of full sentences, as far as its form shows."""
    return len(text.split()) > 1 and SENTENCES.fullmatch(text) is not None


def test_every_error_has_a_default_detail_of_full_sentences() -> None:
    errors = all_errors()
    assert len(errors) > 50
    wrong = [
        f"{error.__module__}.{error.__name__}: {error.summary()}"
        for error in errors
        if not error.__doc__ or not is_sentences(error.summary())
    ]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("area", AREAS)
def test_every_detail_in_the_code_has_its_form(area: str) -> None:
    wrong = wrong_details(area)
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(
    "text",
    [
        "needs the permission x",
        "Too late",
        "Late.",
        "the voucher is frozen.",
        "Frozen; unfreeze it",
    ],
)
def test_a_fragment_is_found(text: str) -> None:
    assert not is_sentences(text)
    code = f"def act():\n    raise Conflict({text!r})\n"
    kinds = {error.__name__: error for error in all_errors()}
    assert list(details_in(ast.parse(code), kinds)) == [(2, text, False)]


def test_a_rule_of_a_field_becomes_a_sentence() -> None:
    rule = "must be later than today"
    assert RULE.fullmatch(rule)
    assert not RULE.fullmatch("Must be later.")
    assert Invalid("day", rule).detail == "The field day must be later than today."
    assert field_sentence(field_error("body", "is required")) == "The body is required."
