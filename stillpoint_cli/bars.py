"""The bar of whatever moves bytes, here or between regions."""

from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from stillpoint_cli.output import live


def byte_bar(*, show: bool = True, goes: bool = False) -> Progress:
    """On a terminal only. One that `goes` leaves no trace when it has ended."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(binary_units=True),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    return Progress(*columns, console=live(), disable=not show or not live().is_terminal, transient=goes)
