"""Tells a person what happens: numbered steps, how long each took, and at the end what was proved."""

import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager

from rich.console import Console
from rich.padding import Padding
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn
from rich.table import Table
from rich.text import Text

from demo.proofs import Proof
from stillpoint_cli.values import format_duration

_INDENT = "    "
# In a file or a pipe a line is as long as it is: whoever reads it there wraps it.
_PIPED_WIDTH = 160


class Story:
    """Prints to stdout, in colour if that is a terminal."""

    def __init__(self) -> None:
        piped = not sys.stdout.isatty()
        self._console = Console(
            width=_PIPED_WIDTH if piped else None, highlight=False, markup=False, emoji=False
        )
        self._steps = 0

    def begin(self, title: str, *lines: str) -> None:
        self._console.print(Text(title, style="bold"))
        for line in lines:
            self._console.print(Text(line, style="dim"))

    @contextmanager
    def step(self, title: str) -> Iterator[None]:
        self._steps += 1
        self._console.print()
        self._console.print(Text.assemble((f"{self._steps:>2}  ", "bold cyan"), (title, "bold")))
        began = time.monotonic()
        yield
        self._console.print(
            Text(f"{_INDENT}done in {format_duration(time.monotonic() - began)}", style="dim")
        )

    def say(self, *lines: str) -> None:
        for line in lines:
            self._console.print(Padding(Text(line), (0, 0, 0, len(_INDENT)), expand=False))

    @contextmanager
    def progress(self, title: str, total_bytes: int) -> Iterator[Callable[[int], None]]:
        """A bar that goes when it is full; nothing where there is no terminal."""
        columns = (
            TextColumn(f"{_INDENT}{{task.description}}"),
            BarColumn(),
            DownloadColumn(binary_units=True),
        )
        with Progress(
            *columns, console=self._console, transient=True, disable=not self._console.is_terminal
        ) as bar:
            task = bar.add_task(title, total=total_bytes)
            yield lambda done: bar.update(task, completed=done)

    def busy(self, title: str) -> AbstractContextManager[object]:
        """A spinner; nothing where there is no terminal."""
        return self._console.status(f"{title} …")

    def conclude(self, proofs: Sequence[Proof], facts: Mapping[str, str]) -> None:
        table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
        table.add_column(no_wrap=True)
        table.add_column(no_wrap=True)
        table.add_column(overflow="fold")
        for proof in proofs:
            mark = Text("✓", style="bold green") if proof.holds else Text("✗", style="bold red")
            style = "" if proof.holds else "red"
            table.add_row(mark, Text(proof.claim, style=style), Text(proof.evidence, style=style))
        self._console.print()
        self._console.print(Text("What was proved", style="bold"))
        self._console.print(table)
        numbers = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
        for name, value in facts.items():
            numbers.add_row(Text(name, style="dim"), Text(value))
        self._console.print()
        self._console.print(numbers)

    def end(self, line: str, *, well: bool) -> None:
        self._console.print()
        self._console.print(Text(line, style="bold green" if well else "bold red"), soft_wrap=True)
