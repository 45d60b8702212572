"""The question before what cannot be taken back."""

import sys
from typing import Annotated

import typer

from stillpoint_cli.output import stderr

YesOption = Annotated[bool, typer.Option("--yes", "-y", help="Do not show what it is about, do not ask.")]


def ask(question: str) -> None:
    # On stderr to its last character, which typer.confirm is not: stdout is for the answer, also into a pipe.
    stderr().print(f"{question} [y/N] ", end="")
    if sys.stdin.readline().strip().lower() not in {"y", "yes"}:
        raise typer.Abort
