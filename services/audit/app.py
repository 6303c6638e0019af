"""The audit service's HTTP application."""

from fastapi import FastAPI

from services.audit.endpoints.admin import admin
from services.audit.endpoints.members import members
from services.audit.events import CATALOGUE
from services.audit.evidence.seal_stores import store_at
from services.audit.service.seals import SealReader
from services.audit.settings import Settings
from shared.service import create_service, serve
from shared.settings import load_settings

NAME = "audit"


def create_app(settings: Settings) -> FastAPI:
    """Return the application."""
    app = create_service(
        NAME,
        settings,
        CATALOGUE,
        [admin, members],
        title="Carnet audit",
        package=__package__,
    )
    app.state.seal_reader = SealReader(store_at(settings.seals), settings.internal_jwks)
    return app


if __name__ == "__main__":
    serve(create_app(load_settings(Settings)))
