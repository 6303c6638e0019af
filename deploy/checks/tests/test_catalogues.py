"""Every text of every message is translated."""

import shutil
from pathlib import Path

import pytest

from deploy.checks import catalogues
from shared.mail.languages import catalogue_files, folder_of


@pytest.mark.parametrize("package", catalogues.PACKAGES)
def test_nothing_is_missing(package: str) -> None:
    assert catalogues.problems_in(folder_of(package)) == []


def test_german_is_there() -> None:
    mails = folder_of("services.identity")
    assert "de" in catalogue_files(mails)
    assert len(catalogues.template_texts(mails)) > 10


@pytest.fixture
def mails(tmp_path: Path) -> Path:
    """A copy of identity's messages."""
    copy = tmp_path / "mails"
    shutil.copytree(str(folder_of("services.identity")), copy)
    return copy


@pytest.mark.parametrize(
    ("before", "after", "problem"),
    [
        ('msgstr "Anmelden"', 'msgstr ""', "'Sign in' is not translated"),
        ('msgid "Sign in"', 'msgid "Log in"', "'Sign in' is not translated"),
        ("Guten Tag %(name)s", "Guten Tag %(nam)s", "'nam'"),
    ],
    ids=["empty", "renamed", "placeholder"],
)
def test_a_mistake_is_reported(mails: Path, before: str, after: str, problem: str) -> None:
    german = mails / "de.po"
    text = german.read_text()
    assert before in text
    german.write_text(text.replace(before, after, 1))
    [line] = catalogues.problems_in(mails)
    assert problem in line


def test_writing_adds_what_is_missing_and_changes_nothing_else(mails: Path) -> None:
    german = mails / "de.po"
    text = german.read_text()
    catalogues.write_into(mails)
    assert german.read_text() == text
    german.write_text(text.replace('msgid "Sign in"', 'msgid "Log in"'))
    catalogues.write_into(mails)
    assert 'msgid "Sign in"\nmsgstr ""' in german.read_text()
    assert "Log in" not in german.read_text()
