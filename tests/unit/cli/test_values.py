from datetime import UTC, datetime, timedelta

import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from stillpoint_cli.values import (
    format_duration,
    format_in_full,
    format_size,
    format_time,
    parse_end,
    parse_moment,
    parse_size,
)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("4096", 4096),
        ("512MiB", 512 << 20),
        ("10GiB", 10 << 30),
        ("10 gib", 10 << 30),
        ("1.5TiB", 3 << 39),
        ("1048576B", 1 << 20),
    ],
)
def test_a_size_is_read_with_binary_units_or_as_bytes(text: str, size: int):
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "10GB", "10G", "-1", "GiB", "1e3", "0.3B", "10GiB x"])
def test_what_is_not_clearly_a_size_is_refused(text: str):
    with pytest.raises(ValueError, match="not a"):
        parse_size(text)


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 B"), (1023, "1023 B"), (1 << 20, "1 MiB"), (1536 << 20, "1.5 GiB"), (64 << 40, "64 TiB")],
)
def test_a_size_is_printed_in_its_largest_unit(size: int, text: str):
    assert format_size(size) == text


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2026-02-28T14:00:05.5Z", datetime(2026, 2, 28, 14, 0, 5, 500_000, tzinfo=UTC)),
        ("2026-02-28T14:00+02:00", datetime(2026, 2, 28, 12, tzinfo=UTC)),
        ("2026-02-28T14:00", datetime(2026, 2, 28, 14).astimezone(UTC)),
        ("2026-02-28", datetime(2026, 2, 28).astimezone(UTC)),
    ],
)
def test_a_moment_is_read_as_iso_writes_it(text: str, moment: datetime):
    assert parse_moment(text).ToDatetime(UTC) == moment


def test_a_time_of_today_is_printed_without_its_date():
    now = datetime(2026, 5, 4, 12, 0, tzinfo=UTC)
    stamp = Timestamp()
    stamp.FromDatetime(now)
    assert format_time(stamp, now) == f"{now.astimezone():%H:%M:%S}"
    assert format_time(stamp, now + timedelta(days=3)) == f"{now.astimezone():%Y-%m-%d %H:%M}"


def test_a_time_that_something_is_decided_by_has_its_date_and_zone_whatever_day_it_is():
    now = datetime.now(UTC)
    stamp = Timestamp()
    stamp.FromDatetime(now)
    assert format_in_full(stamp) == f"{now.astimezone():%Y-%m-%d %H:%M:%S %Z}"


def test_a_time_that_is_not_set_is_empty():
    assert (format_time(Timestamp()), format_in_full(Timestamp())) == ("", "")


@pytest.mark.parametrize(("seconds", "text"), [(0.0123, "12 ms"), (3.21, "3.2 s"), (125.0, "2 min 5 s")])
def test_a_duration_is_printed_in_fitting_units(seconds: float, text: str):
    assert format_duration(seconds) == text


@pytest.mark.parametrize(
    ("text", "before_now"),
    [
        ("90s", timedelta(seconds=90)),
        ("15m", timedelta(minutes=15)),
        ("2h", timedelta(hours=2)),
        ("3d", timedelta(days=3)),
    ],
)
def test_a_moment_is_so_long_ago(text: str, before_now: timedelta):
    now = datetime(2026, 5, 4, 12, 0, tzinfo=UTC)
    assert parse_moment(text, now).ToDatetime(UTC) == now - before_now


def test_a_moment_without_a_zone_is_local_and_without_a_date_of_today():
    now = datetime(2026, 5, 4, 12, 0).astimezone()
    at_half_past_two = now.replace(hour=14, minute=30)
    for text in ("14:30", "14:30:00", "2026-05-04 14:30", at_half_past_two.isoformat()):
        assert parse_moment(text, now).ToDatetime(UTC) == at_half_past_two
    assert parse_moment("2026-05-04", now).ToDatetime(UTC) == now.replace(hour=0)


@pytest.mark.parametrize(
    "text", ["", "yesterday", "25:00", "5", "-5m", "1.5h", "2x", "99999999999d", "2026-13-01"]
)
def test_what_is_not_clearly_a_moment_is_refused(text: str):
    with pytest.raises(ValueError, match="is not a time: write 15m"):
        parse_moment(text)


def test_an_end_is_a_time_or_a_span_from_now():
    now = datetime(2026, 2, 28, 12, tzinfo=UTC)
    assert parse_end("7d", now).ToDatetime(UTC) == now + timedelta(days=7)
    assert parse_end(" 90s ", now).ToDatetime(UTC) == now + timedelta(seconds=90)
    end = parse_end("2026-12-31T18:00+02:00", now)
    assert end.ToDatetime(UTC) == datetime(2026, 12, 31, 16, tzinfo=UTC)
    for wrong in ("", "7", "7w", "-1d", "tomorrow", "9999999999999d"):
        with pytest.raises(ValueError, match="is not a time to come: write 12h"):
            parse_end(wrong, now)
