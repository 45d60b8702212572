"""`stillpoint account`: whether an account has paid."""

from typing import Annotated

import typer

from stillpoint.compute.v1.account_service_pb2 import Account, GetAccountRequest, SetAccountStandingRequest
from stillpoint_cli.commands import make_app
from stillpoint_cli.connections import Connections, new_request_id
from stillpoint_cli.output import JsonOption, enum_name, print_card, print_json, styled
from stillpoint_cli.parsing import one_of

app = make_app(
    "The standing of an account. Debt bars creating and rolling back instance snapshots, never deleting them.",
)

AccountArgument = Annotated[str, typer.Argument(metavar="ACCOUNT", help="The account; by default yours.")]

_STANDINGS = {"good": Account.STANDING_GOOD, "in-debt": Account.STANDING_IN_DEBT}


@app.command()
def show(context: typer.Context, account: AccountArgument = "", as_json: JsonOption = False) -> None:
    """Show an account's standing."""
    response = Connections.of(context).accounts.GetAccount(GetAccountRequest(account_id=account))
    print_json(response.account) if as_json else _print_account(response.account)


@app.command()
def set_standing(
    context: typer.Context,
    standing: Annotated[
        str,
        typer.Argument(
            parser=one_of({name: name for name in _STANDINGS}),
            metavar="STANDING",
            help=f"The standing it shall have: {' or '.join(_STANDINGS)}.",
        ),
    ],
    account: AccountArgument = "",
    as_json: JsonOption = False,
) -> None:
    """Set an account's standing."""
    response = Connections.of(context).accounts.SetAccountStanding(
        SetAccountStandingRequest(
            request_id=new_request_id(), account_id=account, standing=_STANDINGS[standing]
        )
    )
    print_json(response) if as_json else _print_account(response.account)


def _print_account(account: Account) -> None:
    print_card(
        account.id, {"standing": styled(enum_name(Account.Standing.Name, account.standing, "STANDING_"))}
    )
