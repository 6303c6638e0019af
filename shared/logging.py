"""Structured logs on standard output: JSON for programs, columns for users."""

import logging
import sys
from typing import Any

import structlog

_SECRET_WORDS = ("password", "token", "secret", "authorization", "card", "cookie")


def hide_secrets(_logger: Any, _method: str, event: structlog.types.EventDict) -> Any:
    """Replace the values of keys that may be secrets."""
    for key in event:
        if any(word in key.lower() for word in _SECRET_WORDS):
            event[key] = "[hidden]"
    return event


def configure_logging(service: str, *, level: str = "INFO", style: str = "json") -> None:
    """Use one formatter for every logger of the process, including those of libraries."""
    before: list[structlog.types.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        hide_secrets,
    ]
    structlog.configure(
        processors=[*before, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelName(level)),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=before,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                *renderers_of(style),
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    # `RequestContext` logs one line per request, with the route's template instead of the path.
    logging.getLogger("uvicorn.access").disabled = True
    # The libraries that call card gateways log two to four lines per call at INFO.
    for library in ("httpx", "stripe"):
        logging.getLogger(library).setLevel("WARNING")
    structlog.contextvars.bind_contextvars(service=service)


def renderers_of(style: str) -> list[Any]:
    """Return the last processors of a style. Tracebacks have no local values: no passwords."""
    if style == "console":
        plain = structlog.dev.plain_traceback
        return [structlog.dev.ConsoleRenderer(sys.stdout.isatty(), exception_formatter=plain)]
    traceback = structlog.tracebacks.ExceptionDictTransformer(show_locals=False)
    return [
        structlog.processors.ExceptionRenderer(traceback),
        structlog.processors.JSONRenderer(),
    ]
