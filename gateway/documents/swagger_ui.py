"""The documentation page: Swagger UI from an installed package, without the internet."""

from importlib.resources import files

from gateway.documents.packaged_files import CSS, HTML, JAVASCRIPT, Files, packaged_files

# Swagger UI sets style attributes; scripts come from the gateway's own files only.
PAGE_POLICY = (
    b"default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; "
    b"img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'self'; "
    b"frame-ancestors 'none'"
)

_PAGE = b"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Carnet - API</title>
<link rel="stylesheet" href="/docs/assets/swagger-ui.css">
<link rel="icon" href="/docs/assets/favicon.png">
</head>
<body>
<div id="swagger-ui"></div>
<script src="/docs/assets/swagger-ui-bundle.js"></script>
<script src="/docs/assets/start.js"></script>
</body>
</html>
"""

# validatorUrl: without it Swagger UI requests a badge from an outside service.
_START = b"""SwaggerUIBundle({
  url: "/openapi.json",
  dom_id: "#swagger-ui",
  deepLinking: true,
  persistAuthorization: false,
  validatorUrl: null,
  presets: [SwaggerUIBundle.presets.apis],
  layout: "BaseLayout"
});
"""

_PACKAGED = {
    "swagger-ui.css": CSS,
    "swagger-ui-bundle.js": JAVASCRIPT,
    "favicon.png": b"image/png",
}


def static_files() -> Files:
    """Return every file of the documentation."""
    static = files("fastapi_offline") / "static"
    return packaged_files(static, "/docs/assets/", _PACKAGED) | {
        b"/docs": (HTML, _PAGE),
        b"/docs/assets/start.js": (JAVASCRIPT, _START),
    }
