"""Generates Python from protos/ into gen/: as a script (`make protos`) and as the package's build hook.

One function for both, so that a checkout, an editable install and a wheel cannot disagree. What it leaves in gen/ is
exactly what the protos say: files of protos that are gone go too, and a file whose text did not change is not touched.
"""

import importlib.metadata
import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import grpc_tools
from grpc_tools import protoc
from hatchling.builders.hooks.plugin.interface import BuildHookInterface

ROOT = Path(__file__).resolve().parent


class GenerationFailed(Exception):
    """protoc said no (it has printed why), or there is nothing to generate from."""


def generate(root: Path = ROOT) -> int:
    """Bring gen/ up to date with protos/; returns how many files were written or deleted."""
    sources = root / "protos"
    protos = sorted(path.relative_to(sources).as_posix() for path in sources.rglob("*.proto"))
    if not protos:
        raise GenerationFailed(f"no .proto file under {sources}")
    gen = root / "gen"
    gen.mkdir(exist_ok=True)
    # In gen/'s own file system, so that a finished file is moved into place whole: a test run or another `make` that
    # reads gen/ meanwhile sees the old file or the new one, never half of it.
    with tempfile.TemporaryDirectory(prefix=".new-", dir=gen) as scratch:
        _run_protoc(sources, protos, Path(scratch))
        _make_packages(Path(scratch))
        return _replace(gen, Path(scratch))


def _run_protoc(include: Path, protos: list[str], out: Path) -> None:
    includes = [
        include,
        Path(grpc_tools.__file__).parent / "_proto",  # google/protobuf/*.proto
        importlib.metadata.distribution("googleapis-common-protos").locate_file(""),  # google/rpc/*.proto
    ]
    plugins = {name: _find_plugin(name) for name in ("protoc-gen-mypy", "protoc-gen-mypy_grpc")}
    arguments = [
        "protoc",
        *(f"--proto_path={path}" for path in includes),
        *(f"--plugin={name}={path}" for name, path in plugins.items()),
        f"--python_out={out}",
        f"--grpc_python_out={out}",
        f"--mypy_out=quiet:{out}",
        f"--mypy_grpc_out=quiet:{out}",
        *protos,
    ]
    if protoc.main(arguments) != 0:
        raise GenerationFailed("protoc refused the protos; gen/ is as it was")


def _find_plugin(name: str) -> str:
    # Beside the interpreter first: `.venv/bin/python hatch_build.py` works without an activated environment. An
    # isolated build has the plugins on PATH only.
    beside = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    found = shutil.which(name, path=beside)
    if found is None:
        raise GenerationFailed(f"{name} is not installed: it comes with mypy-protobuf")
    return found


def _make_packages(out: Path) -> None:
    for folder in [path for path in out.rglob("*") if path.is_dir()]:
        (folder / "__init__.py").touch()
    for top in out.iterdir():
        (top / "py.typed").touch()


def _replace(gen: Path, new: Path) -> int:
    wanted = {path.relative_to(new) for path in new.rglob("*") if path.is_file()}
    present = {path.relative_to(gen) for path in gen.rglob("*") if path.is_file() and not _hidden(path, gen)}
    changes = 0
    for file in sorted(present - wanted):
        # Bytecode is Python's to keep, unless its source is gone.
        if file.suffix == ".pyc" and _source_of(file) in wanted:
            continue
        (gen / file).unlink(missing_ok=True)
        changes += file.suffix != ".pyc"
    for file in sorted(wanted):
        target = gen / file
        if target.is_file() and target.read_bytes() == (new / file).read_bytes():
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        (new / file).replace(target)
        changes += 1
    folders = [path for path in gen.rglob("*") if path.is_dir() and not _hidden(path, gen)]
    for folder in sorted(folders, reverse=True):
        if not any(folder.iterdir()):
            folder.rmdir()
    return changes


def _hidden(path: Path, gen: Path) -> bool:
    # make's stamp, and the scratch folders: this run's and those of another run at the same time.
    return path.relative_to(gen).parts[0].startswith(".")


def _source_of(bytecode: Path) -> Path:
    return bytecode.parent.parent / f"{bytecode.name.split('.')[0]}.py"


class ProtoBuildHook(BuildHookInterface[Any]):
    """Runs before a wheel or an editable install is put together (see pyproject.toml)."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        generate(Path(self.root))


if __name__ == "__main__":
    try:
        changed = generate()
    except GenerationFailed as refusal:
        sys.exit(f"protos: {refusal}")
    print(f"protos: gen/ is up to date ({changed} files changed)")
