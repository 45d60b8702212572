"""What keeps a service from starting is one line for a person, and exit code 1; anything else is a traceback."""

import sys
from collections.abc import Callable

from pydantic import ValidationError

from svckit.database import DatabaseAway, DatabaseFull


class CannotStart(Exception):
    """The sentence says what is in the way."""


def run_main(service: str, main: Callable[[], None]) -> None:
    """Run a composition root."""
    try:
        main()
    except ValidationError as error:
        sys.exit("\n".join(f"{service}: {sentence}" for sentence in sentences(error)))
    except CannotStart as error:
        sys.exit(f"{service}: {error}")
    except DatabaseAway as error:
        sys.exit(f"{service}: the database does not answer: {error}")
    except DatabaseFull as error:
        sys.exit(f"{service}: the database has no room: {error}")


def sentences(error: ValidationError) -> list[str]:
    """What is wrong with each setting, by the name of its environment variable, and with several together."""
    return [
        (f"STILLPOINT_{'.'.join(str(part) for part in problem['loc']).upper()}: " if problem["loc"] else "")
        + problem["msg"].removeprefix("Value error, ")
        for problem in error.errors(include_url=False, include_input=False)
    ]
