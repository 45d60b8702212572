"""Logging: structlog to standard error, for a person or as JSON, with the ids of the request or of the saga in every line.

Libraries log through the standard library; their lines have the same form.
"""

import logging
import sys
from contextlib import suppress
from typing import Any, Literal, TextIO, cast

import structlog

from svckit.caller import caller_if_any


class _Lossy:
    """Where lines go that may be lost: a full disk under the log, or nobody at the other end of it, must not fail the
    request that had something to say. Lines of libraries are lost in the same way by the standard library.
    """

    def __init__(self, file: TextIO) -> None:
        self._file = file

    def write(self, text: str) -> None:
        with suppress(OSError):
            self._file.write(text)

    def flush(self) -> None:
        with suppress(OSError):
            self._file.flush()


def configure_logging(*, service: str, level: str, form: Literal["console", "json"]) -> None:
    def name_the_service(_logger: Any, _method: str, event: structlog.typing.EventDict) -> Any:
        event.setdefault("service", service)
        return event

    threshold = logging.getLevelNamesMapping()[level.upper()]
    lines: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        name_the_service,
        name_the_caller,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
        *([structlog.processors.format_exc_info] if form == "json" else []),
    ]
    renderer: structlog.typing.Processor = (
        structlog.processors.JSONRenderer()
        if form == "json"
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    )
    structlog.configure(
        processors=[*lines, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(threshold),
        logger_factory=structlog.WriteLoggerFactory(file=cast("TextIO", _Lossy(sys.stderr))),
        cache_logger_on_first_use=True,
    )
    of_libraries = logging.StreamHandler(sys.stderr)
    of_libraries.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.ExtraAdder(), *lines],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    # What libraries say below a warning is about themselves.
    logging.basicConfig(handlers=[of_libraries], level=max(threshold, logging.WARNING), force=True)
    logging.captureWarnings(capture=True)


def name_the_caller(_logger: Any, _method: str, event: structlog.typing.EventDict) -> Any:
    """Of a line about a request or a saga: whose it is. What was bound, a saga's own account for one, is not touched."""
    if "method" in event or "operation_id" in event:
        caller = caller_if_any()
        if caller is not None:
            event.setdefault("account_id", caller.account_id)
            event.setdefault("subject", caller.subject)
    return event
