"""Addresses of calendars from elsewhere."""

from shared.public_addresses import PublicUrl, check_url


def check_calendar_address(address: str) -> PublicUrl:
    """Return the address of a calendar; `webcal` means https.

    No name is resolved. Raises ValueError with the rule that the address breaks.
    """
    scheme, separator, rest = address.partition("://")
    if scheme.lower() == "webcal":
        address = f"https{separator}{rest}"
    url = check_url(address)
    if url.scheme != "https":
        raise ValueError("must begin with https:// or webcal://")
    return url
