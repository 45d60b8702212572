"""Sizes, times and durations, as a person writes and reads them."""

import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from google.protobuf.timestamp_pb2 import Timestamp

MOMENT_FORMS = "15m, 2h or 3d (ago), 14:30 or 2026-05-04 14:30"
END_FORMS = "12h or 7d (from now), 18:00 or 2026-12-31 18:00"
_UNITS = {"": 0, "b": 0, "kib": 1, "mib": 2, "gib": 3, "tib": 4}
_SPAN = re.compile(r"(\d+)([smhd])")
_SPAN_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
_TIME_OF_DAY = re.compile(r"\d\d:\d\d(:\d\d)?")
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([a-z]*)", re.IGNORECASE)


def parse_size(text: str) -> int:
    """`512MiB`, `10GiB`, `1.5 TiB` or plain bytes, in bytes. Raises ValueError with a sentence for the user."""
    match = _SIZE.fullmatch(text.strip())
    if match is None or match[2].lower() not in _UNITS:
        # GB is refused rather than guessed: 10 GB are either 10^10 bytes or what the user did not mean to type.
        raise ValueError(f"{text!r} is not a size: write 512MiB, 10GiB or a number of bytes")
    size = Decimal(match[1]) * 1024 ** _UNITS[match[2].lower()]
    if size != int(size):
        raise ValueError(f"{text!r} is not a whole number of bytes")
    return int(size)


def format_size(size_bytes: int) -> str:
    size = float(size_bytes)
    unit = "B"
    for larger in ("KiB", "MiB", "GiB", "TiB"):
        if size < 1024:
            break
        size, unit = size / 1024, larger
    return f"{size:.0f} {unit}" if size == int(size) else f"{size:.1f} {unit}"


def format_time(time: Timestamp, now: datetime | None = None) -> str:
    """Local and short: the time of day today, the date before it on any other day; empty for a time not set."""
    if not time.seconds:
        return ""
    local = time.ToDatetime(UTC).astimezone()
    today = (now or datetime.now(UTC)).astimezone().date()
    return f"{local:%H:%M:%S}" if local.date() == today else f"{local:%Y-%m-%d %H:%M}"


def format_in_full(time: Timestamp) -> str:
    """Local, with its date and zone, whatever day it is: for what is decided by it."""
    return f"{time.ToDatetime(UTC).astimezone():%Y-%m-%d %H:%M:%S %Z}" if time.seconds else ""


def parse_moment(text: str, now: datetime | None = None) -> Timestamp:
    """`90s`, `15m`, `2h` or `3d` ago; `14:30`, of today; `2026-05-04`, with a time of day and a zone or without: local.

    Raises ValueError with a sentence for the user.
    """
    try:
        return _moment(text.strip(), now or datetime.now(UTC), direction=-1)
    except (ValueError, OverflowError) as error:
        raise ValueError(f"{text!r} is not a time: write {MOMENT_FORMS}") from error


def parse_end(text: str, now: datetime | None = None) -> Timestamp:
    """`90s`, `12h` or `7d` from now; otherwise as `parse_moment`. Raises ValueError with a sentence for the user."""
    try:
        return _moment(text.strip(), now or datetime.now(UTC), direction=1)
    except (ValueError, OverflowError) as error:
        raise ValueError(f"{text!r} is not a time to come: write {END_FORMS}") from error


def _moment(text: str, now: datetime, *, direction: int) -> Timestamp:
    if span := _SPAN.fullmatch(text):
        found = now + direction * timedelta(**{_SPAN_UNITS[span[2]]: int(span[1])})
    elif _TIME_OF_DAY.fullmatch(text):
        found = datetime.fromisoformat(f"{now.astimezone():%Y-%m-%d} {text}").astimezone()
    else:
        found = datetime.fromisoformat(text).astimezone()
    moment = Timestamp()
    moment.FromDatetime(found.astimezone(UTC))
    return moment


def format_duration(seconds: float) -> str:
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s"
