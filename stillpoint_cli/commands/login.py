"""`stillpoint login`: keeps a token for the commands to come, once the deployment has accepted it."""

import getpass
import os
import sys
from contextlib import closing
from pathlib import Path
from typing import Annotated

import typer

from stillpoint.compute.v1.account_service_pb2 import GetAccountRequest
from stillpoint_cli.addresses import Chosen, Service
from stillpoint_cli.commands import make_app
from stillpoint_cli.connections import Connections
from stillpoint_cli.credentials import Credentials, check_token, read_ca, read_token
from stillpoint_cli.logins import Login
from stillpoint_cli.output import say
from stillpoint_cli.regions import find_deployment

app = make_app()


@app.command()
def login(
    context: typer.Context,
    token_file: Annotated[
        Path | None,
        typer.Option(metavar="FILE", exists=True, dir_okay=False, help="Read the token from here."),
    ] = None,
    ca: Annotated[
        Path | None,
        typer.Option(
            "--ca",
            metavar="FILE",
            envvar="STILLPOINT_CA",
            dir_okay=False,
            exists=True,
            help="The CA to trust, as PEM, rather than those that the system does.",
        ),
    ] = None,
) -> None:
    """Keep a token, for commands to the deployment that is chosen now.

    It comes from a file or standard input, or is asked for unseen; never from an argument, which everybody on this machine
    could read in the list of processes. It is kept, once the deployment has accepted it, in a file that is yours alone,
    with the CA and the addresses; `stillpoint logout` removes that file. STILLPOINT_TOKEN and STILLPOINT_TOKEN_FILE, where
    they are set, come before it.
    """
    token = _read(token_file)
    found = find_deployment(context.ensure_object(Chosen), os.environ)
    new = Login(token=token, ca=read_ca(ca) if ca is not None else "", addresses=found.addresses)
    # What the environment says of tokens and CAs is not what is tried here.
    tried = {"STILLPOINT_TLS": os.environ.get("STILLPOINT_TLS", "")}
    with closing(Connections(found.addresses, Credentials(tried, new), found.guessed)) as connections:
        account = connections.accounts.GetAccount(GetAccountRequest()).account
    file = new.write()
    print(
        f"Logged in to {found.addresses.of(Service.COMPUTE).public} as account {account.id}; kept in {file}"
    )
    for name in ("STILLPOINT_TOKEN", "STILLPOINT_TOKEN_FILE"):
        if os.environ.get(name):
            say(f"{name} is set, and comes before this login.")


def _read(file: Path | None) -> str:
    if file is not None:
        return read_token(file)
    if sys.stdin.isatty():
        return check_token(getpass.getpass("Token: "), "what was typed")
    return check_token(sys.stdin.read(), "standard input")
