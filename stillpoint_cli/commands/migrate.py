"""`stillpoint migrate`: the schema of one service's database."""

import importlib
from typing import Annotated

import typer
from pydantic import ValidationError

from stillpoint_cli.addresses import Service
from stillpoint_cli.commands import make_app
from stillpoint_cli.errors import Failure
from svckit.database import Database, DatabaseAway, DatabaseFull
from svckit.migrations import Schema
from svckit.startup import CannotStart, sentences

app = make_app()


@app.command()
def migrate(
    service: Annotated[Service, typer.Argument(help="Whose database.")],
    to: Annotated[
        str, typer.Option(metavar="REVISION", help="Go there, also backwards; `base` drops every table.")
    ] = "",
) -> None:
    """Bring the schema of a service's database up to date.

    The database is the one that the service's own settings name (STILLPOINT_DATABASE_URL). Stop the service before you
    go backwards. `stillpoint up` needs none of this: what it starts migrates its own databases.
    """
    settings_class = importlib.import_module(f"{service.module}.settings").Settings
    schema: Schema = importlib.import_module(f"{service.module}.migrations").SCHEMA
    try:
        settings = settings_class()
        database = Database(settings.database, connections=1)
        before, after = schema.migrate(database, to)
    except CannotStart as error:
        raise Failure(str(error)) from error
    except DatabaseAway as error:
        raise Failure(f"the database does not answer: {error}") from error
    except DatabaseFull as error:
        raise Failure(f"the database has no room: {error}") from error
    except ValidationError as error:
        raise Failure("\n".join(sentences(error))) from error
    database.dispose()
    print(f"{service}: at {after} already" if before == after else f"{service}: {before} → {after}")
