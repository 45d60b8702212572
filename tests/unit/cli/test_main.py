import subprocess
import sys

from typer.testing import CliRunner

from stillpoint_cli.main import COMMANDS, app


def test_every_command_that_help_lists_can_be_imported_and_has_help_of_its_own():
    for command in COMMANDS:
        result = CliRunner().invoke(app, [command, "--help"])
        assert result.exit_code == 0, result.output
        assert result.output.startswith(f"Usage: root {command}")


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
