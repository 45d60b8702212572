"""The commands that a message tells its reader to go on with: each works where it is pasted."""

import shlex
from collections.abc import Mapping

from stillpoint_cli.addresses import Chosen

# Of the process, which is one command line: what goes wrong is put into words far from the root command, in threads too.
_beginning = ["stillpoint"]


def begin_as(chosen: Chosen, environment: Mapping[str, str]) -> None:
    """From here on, commands begin with the root options that were typed. What the environment says need not be."""
    said = {"region": chosen.region, **{service.value: address for service, address in chosen.public.items()}}
    _beginning[1:] = [
        word
        for name, value in said.items()
        if value and value != environment.get(f"STILLPOINT_{name.upper()}")
        for word in (f"--{name}", value)
    ]


def command(*words: str) -> str:
    """`stillpoint`, the root options that were typed, and the words."""
    return shlex.join([*_beginning, *words])
