"""One module per command or command group; each has an `app`, which main.py imports when it is asked for."""

import typer


def make_app(purpose: str | None = None) -> typer.Typer:
    """A command group, or a single command. Its help is plain, as the root command's is."""
    return typer.Typer(
        help=purpose, no_args_is_help=purpose is not None, add_completion=False, rich_markup_mode=None
    )
