"""The rules of `carnet check-source`, each on a small module that breaks it."""

from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from deploy.checks import source
from deploy.checks.source import Figure, SourceFile

LONG = "def long():\n" + "    pass\n" * 40


def module(text: str, path: str = "services/vouchers/service/sales.py") -> SourceFile:
    return SourceFile.parse(Path(path), text)


@pytest.mark.parametrize(
    ("measure", "bad", "good"),
    [
        (
            source.participles,
            "def f():\n    told = 1\n    for changed in ():\n        pass\n",
            "def f():\n    speed = 1\n    elapsed = left_over = 2\n",
        ),
        (
            source.telling,
            'def f():\n    """Say what the event tells."""\n',
            'def f():\n    """Return what the event reports."""\n',
        ),
        (
            source.single_use_helpers,
            "def f():\n    return _g()\n\ndef _g(): ...\n",
            "def f():\n    return _g() or _g()\n\ndef _g(): ...\n",
        ),
        (source.function_lengths, LONG * 3, "def short(): ...\n" * 3),
        (source.file_lengths, "x = 1\n" * 401, "x = 1\n" * 400),
    ],
)
def test_a_figure_counts_what_its_rule_names(
    measure: Callable[[Iterable[SourceFile]], Figure], bad: str, good: str
) -> None:
    exceeded, kept_to = measure([module(bad)]), measure([module(good)])
    assert exceeded.value > exceeded.limit
    assert exceeded.places
    assert kept_to.value <= kept_to.limit
    assert kept_to.places == []


def test_names_of_functions_inside_are_counted_once() -> None:
    text = "def f():\n    def g():\n        told = 1\n    g()\n"
    assert source.participles([module(text)]).places == [
        "services/vouchers/service/sales.py:2 told"
    ]


def test_types_share_a_name_inside_one_package_alone() -> None:
    text = "class Attempt: ...\n"
    files = [
        module(text),
        module(text, "services/payments/service/charges.py"),
        module("class _Attempt: ...\n", "services/vouchers/models.py"),
    ]
    assert source.repeated_types(files).value == 0
    files.append(module(text, "services/vouchers/events.py"))
    assert source.repeated_types(files).places == [
        "Attempt: services/vouchers/service/sales.py, services/vouchers/events.py"
    ]


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ("await session.commit()", "commit a transaction"),
        ('SQL = "INSERT INTO outbox (event_id) VALUES ($1)"', "write into an outbox"),
        ('SQL = "insert into  outbox"'.replace("  ", " "), "write into an outbox"),
    ],
)
def test_only_shared_commits_and_writes_events(line: str, what: str) -> None:
    path = "services/vouchers/service/sales.py"
    assert source.transaction_violations([module("pass")]) == []
    if "await" in line:
        line = f"async def f(session):\n    {line}"
    number = line.count("\n") + 1
    assert source.transaction_violations([module(line, path)]) == [
        f"{path}:{number}: only shared may {what}"
    ]
    assert source.transaction_violations([module(line, "shared/outbox.py")]) == []


def test_our_own_modules_are_measured_without_tests_and_migrations() -> None:
    paths = {file.path.as_posix() for file in source.source_files(source.ROOT)}
    assert "deploy/checks/source.py" in paths
    assert not [path for path in paths if "/tests/" in path or "/migrations/" in path]
