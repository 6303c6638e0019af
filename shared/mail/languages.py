"""The languages of a service's messages: one file `mails/<language>.po` for each, beside English.

The files are gettext catalogues (https://www.gnu.org/software/gettext/manual/html_node/PO-Files.html)
and are read as they are: nothing has to be compiled. The templates contain the English texts.
"""

from collections.abc import Mapping, Sequence
from importlib.resources import files
from importlib.resources.abc import Traversable
from io import BytesIO

from babel import Locale, UnknownLocaleError, negotiate_locale
from babel.messages import Catalog
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po
from babel.support import NullTranslations, Translations

ENGLISH = "en"
FOLDER = "mails"


def folder_of(package: str) -> Traversable:
    """Return the folder with a package's templates and catalogues."""
    return files(package) / FOLDER


def catalogue_files(folder: Traversable) -> dict[str, Traversable]:
    """Return the catalogue of each language in a folder of messages, by language."""
    if not folder.is_dir():
        return {}
    names = sorted(file.name for file in folder.iterdir() if file.name.endswith(".po"))
    return {name.removesuffix(".po"): folder / name for name in names}


def read_catalogue(file: Traversable, language: str) -> Catalog:
    """Return a catalogue. Raises `babel.messages.pofile.PoFileError` for a wrong file."""
    return read_po(BytesIO(file.read_bytes()), locale=language, abort_invalid=True)


class Languages:
    """The languages of one service's messages."""

    def __init__(self, package: str) -> None:
        self._translations: Mapping[str, NullTranslations] = {
            ENGLISH: NullTranslations(),
            **{
                name: _translations(read_catalogue(file, name))
                for name, file in catalogue_files(folder_of(package)).items()
            },
        }

    @property
    def names(self) -> tuple[str, ...]:
        """The languages, English first."""
        return tuple(self._translations)

    def translations(self, language: str) -> NullTranslations:
        """Return the texts of a language in `names`."""
        return self._translations[language]

    def choose(self, preferred: Sequence[str | None]) -> str:
        """Return the first preferred language that exists; `de-AT` is served by `de`.

        Without any, that is English.
        """
        preferences = [name.replace("-", "_") for name in preferred if name]
        available = [name.replace("-", "_") for name in self.names]
        match = negotiate_locale(preferences, available, sep="_")
        return ENGLISH if match is None else match

    @staticmethod
    def locale(language: str, preferred: Sequence[str | None]) -> Locale:
        """Return the locale that formats dates: the preferred one of the language, if known."""
        for name in preferred:
            if name and name.replace("_", "-").split("-")[0] == language.split("_")[0]:
                try:
                    return Locale.parse(name.replace("-", "_"))
                except (ValueError, UnknownLocaleError):
                    continue
        return Locale.parse(language)


def _translations(catalogue: Catalog) -> Translations:
    binary = BytesIO()
    write_mo(binary, catalogue)
    binary.seek(0)
    return Translations(fp=binary)
