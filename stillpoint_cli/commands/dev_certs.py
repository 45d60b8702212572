"""`stillpoint dev-certs`: prints what stillpoint_cli.certs makes."""

import shlex
from pathlib import Path
from typing import Annotated

import typer

from stillpoint_cli.certs import HOSTS, Certs, make
from stillpoint_cli.commands import make_app

app = make_app()


@app.command()
def dev_certs(
    folder: Annotated[
        Path, typer.Argument(file_okay=False, help="Where to put them; it is made where it is not there.")
    ],
    hosts: Annotated[
        list[str] | None,
        typer.Option(
            "--host",
            metavar="NAME",
            help=f"A name or number that the services are reached by, besides {', '.join(HOSTS)}.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Make a small CA, certificates and a key that signs tokens, for trying a locked door. Never for more than that.

    They are good for a year. The CAs' own keys are not kept.
    """
    certs = make(folder, hosts or ())
    print(f"{folder} has")
    print("  ca.crt            what clients trust at the public ports")
    print("  public.*          what the services show there")
    print(
        "  *_svc.*           what each service proves itself with to the others; internal-ca.crt is their CA"
    )
    print("  operator.*        what `stillpoint doctor` proves itself with at the internal ports")
    print("  signing.key       signs tokens; services check them by jwks.json")
    print("Go on with")
    print(f"  stillpoint up --certs {shlex.quote(str(folder))}")
    print("and, in another terminal:")
    print(describe_use(certs))


def describe_use(certs: Certs) -> str:
    """The lines for a shell: a login, and what opens the internal ports."""
    folder = certs.folder.resolve()
    settings = {"CA": str(certs.ca.resolve())} | {
        name: str(Path(file).resolve()) for name, file in certs.operator_settings().items()
    }
    exports = [f"  export STILLPOINT_{name}={shlex.quote(file)}" for name, file in settings.items()]
    login = f"  stillpoint dev-token {shlex.quote(str(folder))} --account team-a | stillpoint login"
    return "\n".join([*exports, login])
