import subprocess
import sys

import pytest
from typer.testing import CliRunner

from stillpoint_cli.main import COMMANDS, app


def test_every_command_that_help_lists_can_be_imported_and_has_help_of_its_own():
    for command in COMMANDS:
        result = CliRunner().invoke(app, [command, "--help"])
        assert result.exit_code == 0, result.output
        assert result.output.startswith(f"Usage: root {command}")


def test_help_of_each_command_fits_into_its_line():
    listed = CliRunner().invoke(app, ["--help"]).output.partition("Commands:")[2]
    assert all(help_ in " ".join(listed.split()) for help_ in COMMANDS.values())


def test_help_of_snapshot_lists_whole_machines_before_single_disks():
    listed = CliRunner().invoke(app, ["snapshot", "--help"]).output.partition("Commands:")[2].splitlines()
    names = [line.split()[0] for line in listed if line.strip()]
    assert names == sorted(names, key=lambda name: name.startswith("disk-"))


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("snapshot list --limit -1", "'--limit': '-1' is not a whole number from 0 on"),
        ("snapshot list --limit many", "'--limit': 'many' is not a whole number from 0 on"),
        ("policy create p --at 2 --keep-count 0", "'--keep-count': '0' is not a whole number from 1 on"),
        ("account set-standing bogus", "'STANDING': 'bogus' is none of good, in-debt"),
        ("events --service bogus", "'--service': 'bogus' is none of compute, disk, snapshot"),
        ("disk snapshot d --keep=-5d", "'--keep': '-5d' is not a time to come: write 12h or 7d (from now)"),
        ("policy create p --at 25", "'--at': '25' is not a list of hours: write 2,14"),
        ("policy create p --at 2 --on noon", "'--on': 'noon' is not a list of days: write mon,thu"),
    ],
)
def test_what_cannot_be_understood_is_said_with_what_would_be(line: str, said: str):
    result = CliRunner().invoke(app, line.split())
    assert result.exit_code == 2
    assert said in result.stderr.replace("{", "").replace("}", "")


def test_the_same_option_has_the_same_help_in_lists_and_events():
    def help_of(option: str, *command: str) -> str:
        words = " ".join(CliRunner().invoke(app, [*command, "--help"]).output.split())
        return words[words.index(f"{option} TIME") :].partition(" --")[0]

    for option in ("--since", "--before"):
        assert help_of(option, "events") == help_of(option, "disk", "list")
    assert "local time" in help_of("--since", "events")


def test_help_imports_neither_grpc_nor_rich():
    code = (
        "import sys; from stillpoint_cli.main import app; app(['--help'], standalone_mode=False); "
        "sys.exit(' '.join({'grpc', 'rich', 'google.protobuf'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stderr.strip() == ""
    assert "doctor" in done.stdout


def test_an_unknown_command_is_a_usage_error():
    assert CliRunner().invoke(app, ["disks"]).exit_code == 2


def test_version_is_printed():
    assert CliRunner().invoke(app, ["--version"]).output.startswith("stillpoint ")
