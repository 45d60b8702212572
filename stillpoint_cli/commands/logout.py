"""`stillpoint logout`: forgets what `stillpoint login` has kept."""

from stillpoint_cli.commands import make_app
from stillpoint_cli.logins import login_file

app = make_app()


@app.command()
def logout() -> None:
    """Remove the token that `stillpoint login` has kept.

    The token itself stays good until it expires: whoever has a copy can go on with it.
    """
    file = login_file()
    try:
        file.unlink()
    except FileNotFoundError:
        print("There was no login.")
    else:
        print(f"{file} is removed.")
