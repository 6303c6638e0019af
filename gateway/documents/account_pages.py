"""The pages behind links in messages: a password, a confirmed address, an invitation.

One page serves all of them; its script selects by the path. An application of one's own at the
public address may serve these paths instead.
"""

from importlib.resources import files

from gateway.documents.packaged_files import CSS, HTML, JAVASCRIPT, Files, packaged_files

PAGES = (b"/account/password", b"/account/address", b"/account/invitation")
_ASSETS = {"account.js": JAVASCRIPT, "account.css": CSS}


def account_files() -> Files:
    """Return every file of the pages."""
    folder = files("gateway.documents") / "account"
    page = (folder / "page.html").read_bytes()
    assets = packaged_files(folder, "/account/assets/", _ASSETS)
    return assets | dict.fromkeys(PAGES, (HTML, page))
