"""Makes file systems full of real files, and looks into them again, without mounting: nobody has to be root.

An image is an ext4 file system where e2fsprogs is installed, and a tar archive where it is not. Both can be damaged,
checked by a program that knows nothing of Stillpoint, and read back file by file.
"""

import hashlib
import os
import random
import shutil
import stat
import subprocess
import tarfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from stillpoint_cli.errors import Failure

MIB = 1 << 20
# Debian and its kin keep e2fsprogs where only root's PATH leads.
_ROOTS_PATH = ("/usr/local/sbin", "/usr/sbin", "/sbin")
_PROGRAMS = ("mkfs.ext4", "e2fsck", "debugfs")
_RANDOM_FILES = 6
_RANDOM_FILE_BYTES = 4 * MIB
_BLOCK_BYTES = 4096

# Every path of a tree, with what it must be: a digest, where a link leads, or that it is a folder.
Manifest = Mapping[str, str]
_FOLDER = "folder"
_LINK = "link to "


@dataclass(frozen=True, slots=True)
class Plan:
    """A file system to make: how large, and how many of whose files. `log_bytes` follow it on its disk."""

    name: str
    source: Path
    size_bytes: int
    files_bytes: int
    files_at_most: int = 2000
    log_bytes: int = 0

    @property
    def disk_bytes(self) -> int:
        return self.size_bytes + self.log_bytes


@dataclass(frozen=True, slots=True)
class FileSystem:
    """One that was made: its image, and what is in it."""

    plan: Plan
    image: Path
    manifest: Manifest

    def describe(self) -> str:
        return (
            f"{count_files(self.manifest):,} files from {self.plan.source}, {_RANDOM_FILES} of random bytes"
        )


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a checker said of an image."""

    sound: bool
    words: str


class Kind(Protocol):
    """A way to put a tree of files into an image."""

    name: str
    checker: str
    vitals: str

    def make(self, tree: Path, image: Path, size_bytes: int) -> None: ...

    def check(self, image: Path) -> Verdict: ...

    def manifest(self, image: Path) -> Manifest:
        """What is in the image. Raises Failure when it cannot be read."""


class Ext4:
    """ext4, made, checked and read by e2fsprogs."""

    name = "ext4"
    checker = "e2fsck -fn"
    vitals = "superblocks"

    def __init__(self, programs: Mapping[str, str]) -> None:
        self._programs = programs

    def make(self, tree: Path, image: Path, size_bytes: int) -> None:
        options = ["-q", "-F", "-b", str(_BLOCK_BYTES), "-d", str(tree)]
        done = self._run("mkfs.ext4", *options, str(image), f"{size_bytes // 1024}k")
        if done.returncode:
            raise Failure(f"mkfs.ext4 could not make {image}: {done.stdout.strip()}")

    def check(self, image: Path) -> Verdict:
        done = self._run("e2fsck", "-fn", str(image))
        if done.returncode == 0:
            return Verdict(sound=True, words="clean")
        complaints = [line for line in done.stdout.splitlines()[1:] if line.strip()]
        return Verdict(
            sound=False, words=f"exit code {done.returncode}, {_shorten(complaints[0]) if complaints else ''}"
        )

    def manifest(self, image: Path) -> Manifest:
        tree = image.with_suffix(".files")
        tree.mkdir()
        try:
            # The folder is named relative to where debugfs runs: debugfs has its own idea of what a blank in a path is.
            done = self._run("debugfs", "-R", f"rdump / {tree.name}", image.name, folder=image.parent)
            if "not open" in done.stdout or "Bad magic" in done.stdout:
                raise Failure(f"debugfs cannot read it: {_shorten(done.stdout.splitlines()[-1])}")
            found = dict(read_manifest(tree))
        finally:
            shutil.rmtree(tree)
        found.pop("lost+found", None)
        return found

    def _run(
        self, program: str, *arguments: str, folder: Path | None = None
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [self._programs[program], *arguments],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            # What is looked for in their words is English.
            env={**os.environ, "LC_ALL": "C"},
            check=False,
        )


class Tar:
    """A tar archive, padded with zeros: what every Python can make, check and read."""

    name = "tar"
    checker = "reading the archive"
    vitals = "first headers"

    def make(self, tree: Path, image: Path, size_bytes: int) -> None:
        with tarfile.open(image, "w", format=tarfile.PAX_FORMAT) as archive:
            archive.add(tree, arcname=".")
        if image.stat().st_size > size_bytes:
            raise Failure(f"{tree} does not fit into {size_bytes // MIB} MiB")
        os.truncate(image, size_bytes)

    def check(self, image: Path) -> Verdict:
        try:
            self.manifest(image)
        except Failure as failure:
            return Verdict(sound=False, words=str(failure))
        return Verdict(sound=True, words="readable to its end")

    def manifest(self, image: Path) -> Manifest:
        try:
            with tarfile.open(image, "r:") as archive:
                found = {
                    os.path.normpath(member.name): _describe_member(archive, member) for member in archive
                }
        except (tarfile.TarError, EOFError, ValueError) as error:
            raise Failure(_shorten(f"not a tar archive: {error}")) from error
        found.pop(".", None)
        return found


def choose_kind() -> tuple[Kind, list[str]]:
    """ext4 if this machine can; else tar, and the names of the programs it lacks."""
    path = os.pathsep.join([os.environ.get("PATH", os.defpath), *_ROOTS_PATH])
    programs = {program: shutil.which(program, path=path) for program in _PROGRAMS}
    missing = [program for program, where in programs.items() if where is None]
    return (
        (Tar(), missing)
        if missing
        else (Ext4({name: where for name, where in programs.items() if where}), [])
    )


def make_file_system(kind: Kind, plan: Plan, folder: Path, advance: Callable[[int], None]) -> FileSystem:
    """`advance` is told how many bytes have been copied."""
    tree = folder / f"{plan.name}.source"
    image = folder / f"{plan.name}.img"
    _gather(plan, tree, advance)
    manifest = dict(read_manifest(tree))
    kind.make(tree, image, plan.size_bytes)
    shutil.rmtree(tree)
    return FileSystem(plan, image, manifest)


def read_manifest(tree: Path) -> Iterator[tuple[str, str]]:
    for path in sorted(tree.rglob("*")):
        name = str(path.relative_to(tree))
        if path.is_symlink():
            yield name, f"{_LINK}{path.readlink()}"
        elif path.is_dir():
            yield name, _FOLDER
        else:
            with path.open("rb") as file:
                yield name, hashlib.file_digest(file, "sha256").hexdigest()


def count_files(manifest: Manifest) -> int:
    return sum(not is_folder_or_link(entry) for entry in manifest.values())


def is_folder_or_link(entry: str) -> bool:
    return entry == _FOLDER or entry.startswith(_LINK)


def _gather(plan: Plan, tree: Path, advance: Callable[[int], None]) -> None:
    """Writes some files of random bytes, and copies from the plan's source until there is as much as was wanted."""
    noise = tree / "random"
    noise.mkdir(parents=True)
    for i in range(_RANDOM_FILES):
        (noise / f"{i}.bin").write_bytes(random.randbytes(_RANDOM_FILE_BYTES))
    room, files = plan.files_bytes - _RANDOM_FILES * _RANDOM_FILE_BYTES, 0
    advance(plan.files_bytes - room)
    for folder, folders, names in os.walk(plan.source):
        # Compiled copies of files that are there anyway, and that a running Python may replace meanwhile.
        folders[:] = sorted(set(folders) - {"__pycache__"})
        here = Path(folder)
        there = tree / plan.source.name / here.relative_to(plan.source)
        there.mkdir(parents=True, exist_ok=True)
        for name in sorted(names):
            size = _copy(here / name, there / name, room)
            room -= size
            files += size > 0
        advance(plan.files_bytes - room)
        if room < _BLOCK_BYTES or files > plan.files_at_most:
            break


def _copy(source: Path, target: Path, room_bytes: int) -> int:
    """The room that the copy takes in a file system; 0 when it was left out."""
    try:
        status = source.lstat()
        # As a file system counts, in whole blocks: a tree of tiny files takes far more than the sum of their bytes.
        size = max(1, -(-status.st_size // _BLOCK_BYTES)) * _BLOCK_BYTES
        if size > room_bytes or not (stat.S_ISREG(status.st_mode) or stat.S_ISLNK(status.st_mode)):
            return 0
        shutil.copyfile(source, target, follow_symlinks=False)
    except (FileNotFoundError, PermissionError):
        # Removed since it was listed, or not ours to read: the disk does well without it.
        target.unlink(missing_ok=True)
        return 0
    return size


def _describe_member(archive: tarfile.TarFile, member: tarfile.TarInfo) -> str:
    if member.issym():
        return f"{_LINK}{member.linkname}"
    file = archive.extractfile(member)
    if file is None:
        return _FOLDER
    digest = hashlib.sha256()
    while data := file.read(MIB):
        digest.update(data)
    return digest.hexdigest()


def _shorten(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= 80 else f"{text[:79]}…"
