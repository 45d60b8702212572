from datetime import UTC, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from disk_svc.service.slots import Schedule, is_time_zone

MON, TUE, FRI, SAT, SUN = 1, 2, 5, 6, 7
EVERY_DAY = range(1, 8)


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def slots_between(schedule: Schedule, begin: str, end: str) -> list[str]:
    """As UTC, without seconds."""
    found: list[str] = []
    slot = schedule.first_after(utc(begin))
    while slot <= utc(end):
        found.append(slot.strftime("%m-%dT%H:%M"))
        slot = schedule.first_after(slot)
    return found


def test_a_slot_is_each_hour_of_each_weekday_of_the_zone():
    schedule = Schedule([MON, SUN], [2, 14], "Asia/Shanghai")
    # 2026-03-01 is a Sunday; Shanghai is eight hours ahead.
    assert slots_between(schedule, "2026-02-28T00:00", "2026-03-08T12:00") == [
        "02-28T18:00",
        "03-01T06:00",
        "03-01T18:00",
        "03-02T06:00",
        "03-07T18:00",
        "03-08T06:00",
    ]


def test_the_first_after_a_slot_is_the_next_one_and_the_latest_until_it_is_itself():
    schedule = Schedule(EVERY_DAY, [2], "UTC")
    slot = utc("2026-05-05T02:00")
    assert schedule.first_after(slot) == slot + timedelta(days=1)
    assert schedule.latest_until(slot) == slot
    assert schedule.latest_until(slot - timedelta(microseconds=1)) == slot - timedelta(days=1)


def test_one_slot_a_week_is_found_from_every_hour_of_the_week():
    schedule = Schedule([FRI], [23], "America/New_York")
    for hour in range(1, 7 * 24 + 1):
        moment = utc("2026-06-06T03:00") + timedelta(hours=hour - 1)  # Friday 23:00 there
        assert schedule.latest_until(moment) == utc("2026-06-06T03:00")
        assert schedule.first_after(moment) == utc("2026-06-13T03:00")


def test_a_time_that_the_clock_skips_runs_as_if_it_had_not():
    """Berlin, 2026-03-29: 02:00 becomes 03:00."""
    assert slots_between(
        Schedule(EVERY_DAY, [2], "Europe/Berlin"), "2026-03-27T12:00", "2026-03-31T12:00"
    ) == ["03-28T01:00", "03-29T01:00", "03-30T00:00", "03-31T00:00"]


def test_a_time_that_the_clock_skips_is_one_slot_with_the_hour_that_it_coincides_with():
    assert slots_between(
        Schedule(EVERY_DAY, [2, 3], "Europe/Berlin"), "2026-03-28T12:00", "2026-03-29T12:00"
    ) == ["03-29T01:00"]


def test_a_time_that_comes_twice_runs_the_first_time_only():
    """Berlin, 2026-10-25: 03:00 becomes 02:00."""
    schedule = Schedule(EVERY_DAY, [2], "Europe/Berlin")
    assert slots_between(schedule, "2026-10-24T12:00", "2026-10-26T12:00") == ["10-25T00:00", "10-26T01:00"]
    assert schedule.latest_until(utc("2026-10-25T01:30")) == utc("2026-10-25T00:00")


def test_every_hour_of_the_day_the_clock_is_put_back_is_24_slots_of_its_25_hours():
    found = slots_between(
        Schedule(EVERY_DAY, range(24), "America/New_York"), "2026-11-01T03:59", "2026-11-02T04:59"
    )
    assert len(found) == 24
    assert "11-01T06:00" not in found  # 01:00 for the second time


@pytest.mark.parametrize(
    ("zone", "slot"),
    [
        ("Asia/Kolkata", "2026-07-06T20:30"),  # five hours and a half ahead: 02:00 on Tuesday there
        ("Asia/Kathmandu", "2026-07-06T20:15"),
        ("America/St_Johns", "2026-07-07T04:30"),
    ],
)
def test_an_hour_of_a_zone_with_half_hours_or_quarters_is_its_own_wall_clocks(zone: str, slot: str):
    schedule = Schedule([TUE], [2], zone)
    assert schedule.first_after(utc("2026-07-05T00:00")) == utc(slot)


def test_a_jump_of_half_an_hour_moves_a_slot_by_that():
    """Lord Howe, 2026-10-04: 02:00 becomes 02:30."""
    schedule = Schedule(EVERY_DAY, [2], "Australia/Lord_Howe")
    assert slots_between(schedule, "2026-10-02T20:00", "2026-10-05T20:00") == [
        "10-03T15:30",
        "10-04T15:00",
        "10-05T15:00",
    ]
    local = schedule.first_after(utc("2026-10-03T12:00")).astimezone(ZoneInfo("Australia/Lord_Howe"))
    assert f"{local:%H:%M}" == "02:30"


def test_a_weekday_that_a_zone_left_out_still_has_its_slot():
    """Samoa went from Thursday, 2011-12-29, to Saturday, 2011-12-31."""
    schedule = Schedule([FRI], [10], "Pacific/Apia")
    assert slots_between(schedule, "2011-12-24T00:00", "2012-01-07T00:00") == ["12-30T20:00", "01-05T20:00"]
    both = Schedule([FRI, SAT], [10], "Pacific/Apia")
    assert slots_between(both, "2011-12-30T00:00", "2011-12-31T12:00") == ["12-30T20:00"]


@given(
    st.builds(
        Schedule,
        st.frozensets(st.integers(1, 7), min_size=1),
        st.frozensets(st.integers(0, 23), min_size=1),
        st.sampled_from(["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Pacific/Apia"]),
    ),
    st.integers(0, 27 * 365 * 24 * 60).map(
        lambda minutes: utc("2008-01-01T00:00") + timedelta(minutes=minutes)
    ),
)
@example(Schedule([FRI], [23], "Pacific/Apia"), datetime(2011, 12, 31, 9, 30, tzinfo=UTC))
def test_there_is_no_slot_between_the_latest_and_the_first_after(schedule: Schedule, moment: datetime):
    latest, first = schedule.latest_until(moment), schedule.first_after(moment)
    assert latest <= moment < first
    assert schedule.first_after(latest) == first
    assert schedule.latest_until(first - timedelta(microseconds=1)) == latest
    assert schedule.latest_until(first) == first


def test_a_year_of_one_hour_a_day_has_one_slot_a_day_however_the_clock_jumps():
    schedule = Schedule(EVERY_DAY, [2], "Europe/Berlin")
    slots = [schedule.first_after(utc("2026-01-01T12:00"))]
    while len(slots) < 365:
        slots.append(schedule.first_after(slots[-1]))
    assert {later - earlier for earlier, later in pairwise(slots)} == {
        timedelta(hours=hours) for hours in (23, 24, 25)
    }
    assert slots[-1] == utc("2027-01-01T01:00")


def test_time_zones_are_those_of_the_iana():
    assert is_time_zone("Europe/Berlin")
    assert is_time_zone("UTC")
    for name in ("", "Mars/Olympus", "../etc/passwd", "Europe", "europe/berlin", "localtime"):
        assert not is_time_zone(name)
