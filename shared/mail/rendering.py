"""Renders a message: one template gives the subject, the text part and the HTML part.

A template extends `layout` and consists of the blocks `subject` and `body`. The parts of a body,
such as `paragraph` and `button`, are macros: `templates/text/parts.jinja` writes them as text,
`templates/html/parts.jinja` as HTML with escaped values. So the two parts never differ in content.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from functools import partial
from importlib.resources import files
from typing import Any
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

from babel import Locale
from babel.dates import format_date, format_time, get_timezone_name
from babel.numbers import format_currency
from css_inline import CSSInliner
from jinja2 import BaseLoader, ChoiceLoader, Environment, FunctionLoader, StrictUndefined
from jinja2.ext import InternationalizationExtension

from shared.mail.languages import Languages, folder_of
from shared.mail.messages import Letterhead, Mail
from shared.mail.untrusted_text import JOINER, neutral, neutral_values

SUFFIX = ".jinja"
LONGEST_SUBJECT = 150


@dataclass(frozen=True, slots=True)
class RenderedMail:
    """The parts of a message in the recipient's language."""

    language: str
    subject: str
    text: str
    html: str
    sender_name: str | None


class Renderer:
    """Renders the messages of one service; its templates are in the folder `mails` of `package`."""

    def __init__(self, package: str, public_url: str) -> None:
        self._package = package
        self._public_url = public_url.rstrip("/")
        self.languages = Languages(package)
        self._environments: dict[tuple[str, str], Environment] = {}
        self._inliner = CSSInliner(
            keep_style_tags=True,
            keep_at_rules=True,
            remove_inlined_selectors=True,
            load_remote_stylesheets=False,
        )

    def render(self, mail: Mail) -> RenderedMail:
        """Return the message's parts.

        Raises jinja2.TemplateError for a template that does not exist or needs another value.
        """
        language = self.languages.choose(mail.languages)
        locale = self.languages.locale(language, mail.languages)
        values = self._values(mail, language, locale)
        text = self._environment(language, "text").get_template(mail.template)
        html = self._environment(language, "html").get_template(mail.template)
        subject = "".join(text.blocks["subject"](text.new_context(values)))
        subject = " ".join(subject.split())[:LONGEST_SUBJECT]
        return RenderedMail(
            language,
            subject,
            _without_blank_lines(text.render(values)),
            self._inliner.inline(html.render(values, subject=subject)),
            values["sender"]["name"],
        )

    def _values(self, mail: Mail, language: str, locale: Locale) -> dict[str, Any]:
        letterhead = mail.letterhead
        return {
            **neutral_values(mail.context),
            "links": {name: f"{self._public_url}{path}" for name, path in mail.links.items()},
            "sender": {
                "name": neutral(letterhead.name) if letterhead.name else None,
                "logo": _secure(letterhead.logo_url),
            },
            "language": language,
            "home": self._public_url,
            "moment": partial(_moment, letterhead, locale),
            "day": partial(_day, locale),
            "money": partial(_money, locale),
        }

    def _environment(self, language: str, part: str) -> Environment:
        """Return the environment of one part in one language; templates are compiled once."""
        if (language, part) not in self._environments:
            environment = Environment(
                loader=_loader(self._package, part),
                autoescape=part == "html",  # noqa: S701 - the other part is plain text
                undefined=StrictUndefined,
                trim_blocks=True,
                lstrip_blocks=True,
                extensions=[InternationalizationExtension],
            )
            install: Any = environment
            install.install_gettext_translations(
                self.languages.translations(language), newstyle=True
            )
            environment.globals.update(vars(environment.get_template("parts").module))
            self._environments[language, part] = environment
        return self._environments[language, part]


def _loader(package: str, part: str) -> BaseLoader:
    """Return the loader of a service's templates, and of the layout and parts of `shared`."""

    def load(folder: Any, name: str) -> str | None:
        file = folder / f"{name}{SUFFIX}"
        return file.read_text() if name.isidentifier() and file.is_file() else None

    ours = files("shared.mail") / "templates" / part
    return ChoiceLoader(
        [FunctionLoader(partial(load, ours)), FunctionLoader(partial(load, folder_of(package)))]
    )


def _without_blank_lines(text: str) -> str:
    """Return a text in which at most one empty line separates two paragraphs."""
    paragraphs = [part.strip("\n") for part in text.split("\n\n") if part.strip()]
    return "\n\n".join(paragraphs) + "\n"


def _secure(url: str | None) -> str | None:
    return url if url and urlsplit(url).scheme == "https" else None


def _moment(letterhead: Letterhead, locale: Locale, value: str) -> str:
    """Return an instant, stored as ISO 8601, with its day and time in the sender's zone."""
    moment = datetime.fromisoformat(value.replace(JOINER, ""))
    local = moment.astimezone(ZoneInfo(letterhead.timezone))
    day = format_date(local, "long", locale=locale)
    time = format_time(local, "short", tzinfo=local.tzinfo, locale=locale)
    return f"{day}, {time} {get_timezone_name(local, 'short', locale=locale)}"


def _day(locale: Locale, value: str) -> str:
    """Return a day, stored as ISO 8601."""
    return str(format_date(date.fromisoformat(value.replace(JOINER, "")), "long", locale=locale))


def _money(locale: Locale, amount: Mapping[str, str]) -> str:
    """Return an amount of money: `{"amount": "12.50", "currency": "EUR"}`."""
    return str(
        format_currency(
            Decimal(amount["amount"].replace(JOINER, "")), amount["currency"], locale=locale
        )
    )
