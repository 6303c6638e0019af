"""Debian packages as an ordinary user: fetched by apt, verified by apt, unpacked anywhere.

apt works in folders of our own: neither the system's package lists nor its record of what is
installed are read or written, so the answer is the same on every machine of one release.
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
    """Programs to have: `names` with what `wanted` matches of the packages they depend on.

    Libraries that the programs load are wanted, because a minimal image may lack them; what
    Debian's service scripts need is not. `told` is what a person reads while they are fetched,
    `remedy` what else one can do when they cannot be had.
    """

    folder: str
    names: tuple[str, ...]
    wanted: re.Pattern[str]
    told: str
    remedy: str


def cache_folder() -> Path:
    """Return the folder of downloads that every checkout of this user shares."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "carnet"


def available() -> bool:
    """Tell whether this system has Debian's package tools."""
    return all(shutil.which(tool) for tool in ("apt-get", "dpkg"))


def unpack(
    chosen: Packages, into: Path, adapt: Callable[[Path], None], say: Callable[[str], None]
) -> None:
    """Unpack packages into the folder `into`, which comes to be in one step.

    `adapt` may change the unpacked tree before that.

    Raises StartError when the packages cannot be had.
    """
    packages = _downloaded(chosen, say)
    into.parent.mkdir(parents=True, exist_ok=True)
    for leftover in into.parent.glob(f"{into.name}.unfinished.*"):
        shutil.rmtree(leftover, ignore_errors=True)
    # A name of its own: an attempt that was cancelled may still be unpacking in its thread.
    unfinished = Path(tempfile.mkdtemp(prefix=f"{into.name}.unfinished.", dir=into.parent))
    try:
        for package in packages:
            _run(chosen, ["dpkg", "-x", str(package), str(unfinished)], f"cannot unpack {package}")
        adapt(unfinished)
        _put_in_place(unfinished, into)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def libraries_in(root: Path) -> str:
    """Return the search path of the libraries in a tree of unpacked packages."""
    return ":".join(sorted({str(file.parent) for file in root.glob("**/lib/*-linux-*/*.so.*")}))


def _downloaded(chosen: Packages, say: Callable[[str], None]) -> list[Path]:
    folder = cache_folder() / f"{chosen.folder}-{_release(chosen)}"
    if not (folder / _COMPLETE).exists():
        _download(chosen, folder, say)
    return sorted(folder.glob("*.deb"))


def _release(chosen: Packages) -> str:
    """Name what the packages were built for, as `debian-12-amd64`."""
    facts = dict(re.findall(r'^(\w+)="?([^"\n]*)"?$', _os_release(), re.MULTILINE))
    told = _run(chosen, ["dpkg", "--print-architecture"], "dpkg does not know this machine")
    return f"{facts.get('ID', 'linux')}-{facts.get('VERSION_ID', 'rolling')}-{told.strip()}"


def _os_release() -> str:
    try:
        return Path("/etc/os-release").read_text()
    except OSError:
        return ""


def _download(chosen: Packages, folder: Path, say: Callable[[str], None]) -> None:
    unfinished = folder.with_name(f"{folder.name}.unfinished.{os.getpid()}")
    shutil.rmtree(unfinished, ignore_errors=True)
    options = _private_apt(unfinished / "apt")
    try:
        say("reading the package lists of this Debian (a few seconds)")
        _run(chosen, ["apt-get", *options, "-q", "update"], "apt cannot read the package lists")
        found = _closure(chosen, options)
        say(f"fetching {chosen.told}: {len(found)} packages, once")
        fetch = ["apt-get", *options, "-q", "download", *found]
        _run(chosen, fetch, "apt cannot fetch", unfinished)
        shutil.rmtree(unfinished / "apt")
        (unfinished / _COMPLETE).touch()
        if not (folder / _COMPLETE).exists():
            shutil.rmtree(folder, ignore_errors=True)
        _put_in_place(unfinished, folder)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _put_in_place(unfinished: Path, folder: Path) -> None:
    """Move a finished folder to its place, unless another start was faster."""
    try:
        unfinished.rename(folder)
    except OSError:
        if not folder.is_dir():
            raise


def _private_apt(folder: Path) -> list[str]:
    for needed in ("state/lists/partial", "cache/archives/partial"):
        (folder / needed).mkdir(parents=True)
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


def _closure(chosen: Packages, options: list[str]) -> list[str]:
    """Return `name=version` of what a machine with nothing installed would need, of our kinds."""
    plan = _run(
        chosen,
        ["apt-get", *options, "-s", "install", "--no-install-recommends", *chosen.names],
        f"this system's package sources have no {' or no '.join(chosen.names)}",
    )
    found = re.findall(r"^Inst (\S+) \((\S+)", plan, re.MULTILINE)
    return [
        f"{name}={version}"
        for name, version in found
        if name in chosen.names or chosen.wanted.fullmatch(name)
    ]


def _run(chosen: Packages, command: list[str], failure: str, directory: Path | None = None) -> str:
    environment = {**os.environ, "LC_ALL": "C"}
    done = subprocess.run(
        command, cwd=directory, env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        reason = (done.stderr or done.stdout).strip().rpartition("\n")[2]
        raise StartError(
            f"{chosen.told}: {failure}: {reason}",
            f"Check the network and /etc/apt; or {chosen.remedy}.",
        )
    return done.stdout
