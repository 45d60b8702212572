"""When a policy's slots are: hours of weekdays on the wall clock of a time zone, as moments in UTC.

A wall clock jumps. A time that it skips (put forward) is taken at the offset from before the jump, so its slot comes as
long after the one before as if there had been no jump, and may coincide with a later hour's: then the two are one. A
time that it shows twice (put back) is a slot the first time only. Both are what a datetime with fold=0 says (PEP 495).
"""

import zoneinfo
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from functools import cache


@dataclass(frozen=True, slots=True)
class Schedule:
    """`weekdays` are 1, Monday, to 7; `hours` are 0 to 23; `time_zone` is an IANA name. None is empty."""

    weekdays: Collection[int]
    hours: Collection[int]
    time_zone: str

    def first_after(self, moment: datetime) -> datetime:
        return min(slot for slot in self._around(moment, range(-1, 9)) if slot > moment)

    def latest_until(self, moment: datetime) -> datetime:
        return max(slot for slot in self._around(moment, range(-8, 2)) if slot <= moment)

    def _around(self, moment: datetime, days: range) -> Iterator[datetime]:
        """The slots of so many days before and after the moment's. A week has one, and a jump, which may be of a whole
        day where a zone crosses the date line, moves it by one day at most.
        """
        zone = zoneinfo.ZoneInfo(self.time_zone)
        today = moment.astimezone(zone).date()
        for days_away in days:
            day = today + timedelta(days=days_away)
            if day.isoweekday() in self.weekdays:
                for hour in self.hours:
                    yield datetime.combine(day, time(hour), zone).astimezone(UTC)


def is_time_zone(name: str) -> bool:
    return name in _time_zones()


@cache
def _time_zones() -> frozenset[str]:
    """Walks the folders of the time zone data, so once. `localtime`, where there is one, is another zone on each machine."""
    return frozenset(zoneinfo.available_timezones() - {"localtime"})
