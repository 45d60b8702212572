"""What was sampled, for a person: a line for each service and quantity, and every sample in a file."""

import csv
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path

from stillpoint_cli.addresses import Service
from tests.load.processes import Sample

QUANTITIES = ("memory_mib", "file_mib", "open_files", "threads")
_BARS = "▁▂▃▄▅▆▇█"
_COLUMNS = 60


def write_csv(path: Path, samples: Mapping[Service, Sequence[Sample]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["service", *Sample.__slots__])
        for service, of_one in samples.items():
            rows.writerows([service, *(getattr(each, name) for name in Sample.__slots__)] for each in of_one)


def draw(samples: Mapping[Service, Sequence[Sample]]) -> str:
    lines = [f"{'service':9} {'quantity':11} {'2nd quarter':>11} {'last':>8}   over time, from 0"]
    for service, of_one in samples.items():
        for name in QUANTITIES:
            before, after = quarters(of_one, name)
            bars = line([getattr(each, name) for each in of_one])
            lines.append(f"{service:9} {name:11} {before:11.1f} {after:8.1f}   {bars}")
    return "\n".join(lines)


def line(values: Sequence[float]) -> str:
    """A bar for each of some equal parts, as high as the part's median."""
    parts = min(_COLUMNS, len(values))
    ends = [len(values) * number // parts for number in range(parts + 1)]
    medians = [statistics.median(values[ends[n] : ends[n + 1]]) for n in range(parts)]
    highest = max(medians, default=0) or 1
    return "".join(_BARS[round(each / highest * (len(_BARS) - 1))] for each in medians)


def quarters(of_one: Sequence[Sample], name: str) -> tuple[float, float]:
    """The medians of the second quarter and of the last: the first is for warming up."""
    values = [getattr(each, name) for each in of_one]
    quarter = len(values) // 4
    return statistics.median(values[quarter : 2 * quarter]), statistics.median(values[-quarter:])
