"""Public holidays of countries and of their subdivisions."""

from dataclasses import dataclass
from datetime import date

from holidays import country_holidays, list_supported_countries


class UnknownCountry(ValueError):
    """There is no calendar of holidays of the country."""


class UnknownSubdivision(ValueError):
    """The country has no such subdivision. The text lists those that it has."""


@dataclass(frozen=True, slots=True)
class PublicHoliday:
    """A public holiday with its name in the first language of the country."""

    day: date
    name: str


def public_holidays(country: str, subdivision: str | None, year: int) -> list[PublicHoliday]:
    """Return the public holidays of a year in their order, with days that are observed instead.

    `country` is an ISO 3166-1 code, `subdivision` mostly the second part of an ISO 3166-2 code. The
    first use of a country reads its calendar, which takes some tenths of a second. Raises
    UnknownCountry and UnknownSubdivision.
    """
    countries = list_supported_countries(include_aliases=False)
    if country not in countries:
        raise UnknownCountry
    if subdivision is not None and subdivision not in countries[country]:
        raise UnknownSubdivision(", ".join(countries[country]))
    # Without a language the names are those of the process's locale.
    language = country_holidays(country).default_language
    calendar = country_holidays(country, subdiv=subdivision, years=year, language=language)
    days = sorted(day for day in calendar if day.year == year)
    return [PublicHoliday(day, calendar[day]) for day in days]
