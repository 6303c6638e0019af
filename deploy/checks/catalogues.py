"""`carnet mail-catalogues`: the translations of messages are complete, or are written anew."""

import re
from importlib.resources import files
from importlib.resources.abc import Traversable
from io import BytesIO
from pathlib import Path

import typer
from babel.messages import Catalog
from babel.messages.extract import extract_from_dir
from babel.messages.pofile import write_po

from shared.mail.languages import catalogue_files, folder_of, read_catalogue

PACKAGES = ("services.identity", "services.vouchers", "services.payments")
LAYOUT = "shared.mail"
_METHODS = [("**.jinja", "jinja2")]
# Headers of Babel without a meaning here; some contain the present time.
_FORMALITIES = re.compile(
    rb'^"(?:Project-Id|Report-Msgid|POT-Creation|PO-Revision|Last-Translator|Language-Team|Generated)'
    rb"[^\n]*\n",
    re.MULTILINE,
)

app = typer.Typer(help="Check the translations of messages, or add new texts to them.")


def template_texts(mails: Traversable) -> Catalog:
    """Return the texts in a folder of templates, and of the layout that they extend."""
    catalogue = Catalog(charset="utf-8")
    for folder in (files(LAYOUT) / "templates", mails):
        for _file, _line, text, comments, context in extract_from_dir(
            str(folder), _METHODS, options_map={"**.jinja": {"trimmed": "true"}}
        ):
            catalogue.add(text, auto_comments=comments, context=context)
    return catalogue


def problems_in(mails: Traversable) -> list[str]:
    """Return what is wrong with the catalogues of a folder: a line for each text."""
    problems = []
    for language, file in catalogue_files(mails).items():
        catalogue = read_catalogue(file, language)
        for message in template_texts(mails):
            if not message.id:
                continue
            place = f"{file}: {message.id!r}"
            entry = catalogue.get(message.id)
            strings = () if entry is None else entry.string
            texts = (strings,) if isinstance(strings, str) else strings
            if entry is None or not texts or not all(texts):
                problems.append(f"{place} is not translated")
            elif entry.fuzzy:
                problems.append(f"{place} is marked as fuzzy: check the translation")
            else:
                entry.flags.add("python-format")
                problems += [f"{place}: {error}" for error in entry.check(catalogue)]
    return problems


@app.command()
def check() -> None:
    """Exit with 1 and a line for each text that is not translated."""
    problems = [problem for package in PACKAGES for problem in problems_in(folder_of(package))]
    for problem in problems:
        print(problem)
    if problems:
        raise typer.Exit(1)


@app.command()
def write() -> None:
    """Add new texts of the templates to each catalogue, and remove those that are gone."""
    for package in PACKAGES:
        write_into(folder_of(package))


def write_into(mails: Traversable) -> None:
    """Bring the catalogues of a folder up to date with its templates."""
    for language, file in catalogue_files(mails).items():
        catalogue = read_catalogue(file, language)
        catalogue.update(template_texts(mails), no_fuzzy_matching=True)
        catalogue.obsolete.clear()
        content = BytesIO()
        write_po(content, catalogue, no_location=True, width=0)
        Path(str(file)).write_bytes(_FORMALITIES.sub(b"", content.getvalue()).lstrip())
