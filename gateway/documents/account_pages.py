"""The pages behind links in messages: a password, a confirmed address, an invitation.

One page serves all of them; its script selects by the path. An application of one's own at the
public address may serve these paths instead.
"""

from importlib.resources import files

from gateway.documents.swagger_ui import HTML

PAGES = (b"/account/password", b"/account/address", b"/account/invitation")
_ASSETS = {
    "account.js": b"text/javascript; charset=utf-8",
    "account.css": b"text/css; charset=utf-8",
}


def account_files() -> dict[bytes, tuple[bytes, bytes]]:
    """Return the media type and content of every file of the pages, by path."""
    folder = files("gateway.documents") / "account"
    contents = {
        f"/account/assets/{name}".encode(): (media_type, (folder / name).read_bytes())
        for name, media_type in _ASSETS.items()
    }
    page = (folder / "page.html").read_bytes()
    return contents | dict.fromkeys(PAGES, (HTML, page))
