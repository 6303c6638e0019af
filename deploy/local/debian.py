"""Debian packages for an ordinary user: downloaded and verified by apt, unpacked anywhere.

apt works in our own folders. It neither reads nor writes the system's package lists and its list of
installed packages, so the result is the same on every machine of one release.
"""

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from deploy.local.errors import StartError

_COMPLETE = "complete"


@dataclass(frozen=True)
class Packages:
    """Packages to unpack: `names`, and those of their dependencies that `dependencies` matches.

    Libraries that the programs load are needed, because a minimal image may lack them; what
    Debian's service scripts need is not. `title` names the packages in messages, `remedy` is what
    the user can do if they cannot be downloaded.
    """

    folder: str
    names: tuple[str, ...]
    dependencies: re.Pattern[str]
    title: str
    remedy: str


def cache_folder() -> Path:
    """Return the folder of downloads, which all checkouts of this user share."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "carnet"


def available() -> bool:
    """Return whether this system has Debian's package tools."""
    return all(shutil.which(tool) for tool in ("apt-get", "dpkg"))


def unpack(
    packages: Packages, into: Path, adapt: Callable[[Path], None], say: Callable[[str], None]
) -> None:
    """Unpack packages into the new folder `into`, which appears in one step when it is complete.

    `adapt` may change the unpacked tree before that. Raises StartError when a package cannot be
    downloaded or unpacked.
    """
    downloads = cache_folder() / f"{packages.folder}-{_release(packages)}"
    if not (downloads / _COMPLETE).exists():
        _download(packages, downloads, say)
    into.parent.mkdir(parents=True, exist_ok=True)
    for leftover in into.parent.glob(f"{into.name}.unfinished.*"):
        shutil.rmtree(leftover, ignore_errors=True)
    # A unique name: the thread of a cancelled attempt may still be unpacking.
    temporary = Path(tempfile.mkdtemp(prefix=f"{into.name}.unfinished.", dir=into.parent))
    try:
        for file in sorted(downloads.glob("*.deb")):
            _run(packages, ["dpkg", "-x", str(file), str(temporary)], f"cannot unpack {file}")
        adapt(temporary)
        _put_in_place(temporary, into)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def libraries_in(root: Path) -> str:
    """Return the search path of the libraries in a tree of unpacked packages."""
    return ":".join(sorted({str(file.parent) for file in root.glob("**/lib/*-linux-*/*.so.*")}))


def _release(packages: Packages) -> str:
    """Return the system that the packages are built for, as `debian-12-amd64`."""
    try:
        text = Path("/etc/os-release").read_text()
    except OSError:
        text = ""
    facts = dict(re.findall(r'^(\w+)="?([^"\n]*)"?$', text, re.MULTILINE))
    command = ["dpkg", "--print-architecture"]
    architecture = _run(packages, command, "dpkg does not know this machine").strip()
    return f"{facts.get('ID', 'linux')}-{facts.get('VERSION_ID', 'rolling')}-{architecture}"


def _download(packages: Packages, folder: Path, say: Callable[[str], None]) -> None:
    temporary = folder.with_name(f"{folder.name}.unfinished.{os.getpid()}")
    shutil.rmtree(temporary, ignore_errors=True)
    options = _private_apt(temporary / "apt")
    try:
        say("reading the package lists of this Debian (a few seconds)")
        _run(packages, ["apt-get", *options, "-q", "update"], "apt cannot read the package lists")
        versions = _versions(packages, options)
        say(f"downloading {packages.title}: {len(versions)} packages, only once")
        download = ["apt-get", *options, "-q", "download", *versions]
        _run(packages, download, "apt cannot download", temporary)
        shutil.rmtree(temporary / "apt")
        (temporary / _COMPLETE).touch()
        if not (folder / _COMPLETE).exists():
            shutil.rmtree(folder, ignore_errors=True)
        _put_in_place(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _put_in_place(temporary: Path, folder: Path) -> None:
    """Move a complete folder to its place, unless another process was faster."""
    try:
        temporary.rename(folder)
    except OSError:
        if not folder.is_dir():
            raise


def _private_apt(folder: Path) -> list[str]:
    """Return the options with which apt works in a folder of its own."""
    for name in ("state/lists/partial", "cache/archives/partial"):
        (folder / name).mkdir(parents=True)
    status = folder / "status"
    status.touch()
    return [
        *("-o", f"Dir::State={folder / 'state'}"),
        *("-o", f"Dir::Cache={folder / 'cache'}"),
        *("-o", f"Dir::State::status={status}"),
        *("-o", "APT::Sandbox::User="),
        *("-o", "APT::Update::Post-Invoke::="),
        *("-o", "APT::Get::List-Cleanup=false"),
    ]


def _versions(packages: Packages, options: list[str]) -> list[str]:
    """Return `name=version` of every package that a machine without any of them needs."""
    plan = _run(
        packages,
        ["apt-get", *options, "-s", "install", "--no-install-recommends", *packages.names],
        f"this system's package sources have no {' or no '.join(packages.names)}",
    )
    return [
        f"{name}={version}"
        for name, version in re.findall(r"^Inst (\S+) \((\S+)", plan, re.MULTILINE)
        if name in packages.names or packages.dependencies.fullmatch(name)
    ]


def _run(
    packages: Packages, command: list[str], failure: str, directory: Path | None = None
) -> str:
    environment = {**os.environ, "LC_ALL": "C"}
    process = subprocess.run(
        command, cwd=directory, env=environment, capture_output=True, text=True, check=False
    )
    if process.returncode != 0:
        reason = (process.stderr or process.stdout).strip().rpartition("\n")[2]
        raise StartError(
            f"{packages.title}: {failure}: {reason}",
            f"Check the network and /etc/apt; or {packages.remedy}.",
        )
    return process.stdout
