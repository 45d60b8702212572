"""Sizes, times and durations, as a person writes and reads them."""

import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from google.protobuf.timestamp_pb2 import Timestamp

_UNITS = {"": 0, "b": 0, "kib": 1, "mib": 2, "gib": 3, "tib": 4}
_SPAN_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_SPAN = re.compile(r"(\d+)([smhd])")
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


def parse_moment(text: str, now: datetime | None = None) -> datetime:
    """An ISO date or time, local unless it says otherwise, or an age: `90s`, `30m`, `2h`, `7d`. Raises ValueError with a
    sentence for the user.
    """
    try:
        return _moment(text, now or datetime.now(UTC), direction=-1)
    except (ValueError, OverflowError) as error:
        raise ValueError(
            f"{text!r} is not a time: write 2026-02-28T14:00, or an age such as 90s, 30m, 2h, 7d"
        ) from error


def parse_end(text: str, now: datetime | None = None) -> datetime:
    """An ISO date or time, local unless it says otherwise, or a span from now: `90s`, `30m`, `12h`, `7d`. Raises ValueError
    with a sentence for the user.
    """
    try:
        return _moment(text, now or datetime.now(UTC), direction=1)
    except (ValueError, OverflowError) as error:
        raise ValueError(f"{text!r} is no end: write 2026-12-31T18:00, or a span such as 12h, 7d") from error


def _moment(text: str, now: datetime, *, direction: int) -> datetime:
    span = _SPAN.fullmatch(text.strip())
    if span is None:
        return datetime.fromisoformat(text.strip()).astimezone(UTC)
    return now + direction * timedelta(seconds=int(span[1]) * _SPAN_SECONDS[span[2]])


def format_time(time: Timestamp, now: datetime | None = None) -> str:
    """Local and short: the time of day today, the date before it on any other day; empty for a time not set."""
    if not time.seconds:
        return ""
    local = time.ToDatetime(UTC).astimezone()
    today = (now or datetime.now(UTC)).astimezone().date()
    return f"{local:%H:%M:%S}" if local.date() == today else f"{local:%Y-%m-%d %H:%M}"


def format_duration(seconds: float) -> str:
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s"
