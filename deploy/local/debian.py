"""Debian packages as an ordinary user: fetched by apt, verified by apt, unpacked anywhere.

apt works in folders of our own: neither the system's package lists nor its record of what is
installed are read or written, so the answer is the same on every machine of one release.
"""

import os
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

from deploy.local.errors import StartError

# What rabbitmq-server's closure holds beyond a running system: Erlang, and the libraries Erlang
# loads, which a minimal image may lack. Not wanted: what Debian's service scripts need.
_WANTED = re.compile(
    r"erlang-.*|rabbitmq-server|zlib1g"
    r"|lib(ssl|stdc\+\+|tinfo|systemd|cap2|gcrypt|gpg-error|lz4|lzma|zstd).*"
)
_COMPLETE = "complete"


def cache_folder() -> Path:
    """Return the folder of downloads that every checkout of this user shares."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "carnet"


def available() -> bool:
    """Tell whether this system has Debian's package tools."""
    return all(shutil.which(tool) for tool in ("apt-get", "dpkg"))


def unpack_rabbitmq(into: Path, adapt: Callable[[Path], None], say: Callable[[str], None]) -> None:
    """Unpack rabbitmq-server and Erlang into the folder `into`, which comes to be in one step.

    `adapt` may change the unpacked tree before that.

    Raises StartError when the packages cannot be had.
    """
    packages = _downloaded(say)
    unfinished = into.with_name(into.name + ".unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    for package in packages:
        _run(["dpkg", "-x", str(package), str(unfinished)], f"cannot unpack {package}")
    adapt(unfinished)
    unfinished.rename(into)


def _downloaded(say: Callable[[str], None]) -> list[Path]:
    folder = cache_folder() / f"rabbitmq-{_release()}"
    if not (folder / _COMPLETE).exists():
        _download(folder, say)
    return sorted(folder.glob("*.deb"))


def _release() -> str:
    """Name what the packages were built for, as `debian-12-amd64`."""
    facts = dict(re.findall(r'^(\w+)="?([^"\n]*)"?$', _os_release(), re.MULTILINE))
    machine = _run(["dpkg", "--print-architecture"], "dpkg does not know this machine").strip()
    return f"{facts.get('ID', 'linux')}-{facts.get('VERSION_ID', 'rolling')}-{machine}"


def _os_release() -> str:
    try:
        return Path("/etc/os-release").read_text()
    except OSError:
        return ""


def _download(folder: Path, say: Callable[[str], None]) -> None:
    unfinished = folder.with_name(f"{folder.name}.unfinished.{os.getpid()}")
    shutil.rmtree(unfinished, ignore_errors=True)
    options = _private_apt(unfinished / "apt")
    try:
        say("reading the package lists of this Debian (a few seconds)")
        _run(["apt-get", *options, "-q", "update"], "apt cannot read the package lists")
        wanted = _closure(options)
        say(f"fetching RabbitMQ and Erlang: {len(wanted)} packages, about 40 MB, once")
        _run(["apt-get", *options, "-q", "download", *wanted], "apt cannot fetch", unfinished)
        shutil.rmtree(unfinished / "apt")
        (unfinished / _COMPLETE).touch()
        _put_in_place(unfinished, folder)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _put_in_place(unfinished: Path, folder: Path) -> None:
    """Move a finished download to its place, unless another start was faster."""
    if (folder / _COMPLETE).exists():
        return
    shutil.rmtree(folder, ignore_errors=True)
    unfinished.rename(folder)


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


def _closure(options: list[str]) -> list[str]:
    """Return `name=version` of what a machine with nothing installed would need, of our kinds."""
    plan = _run(
        ["apt-get", *options, "-s", "install", "--no-install-recommends", "rabbitmq-server"],
        "this system's package sources have no rabbitmq-server",
    )
    found = re.findall(r"^Inst (\S+) \((\S+)", plan, re.MULTILINE)
    return [f"{name}={version}" for name, version in found if _WANTED.fullmatch(name)]


def _run(command: list[str], failure: str, directory: Path | None = None) -> str:
    environment = {**os.environ, "LC_ALL": "C"}
    done = subprocess.run(
        command, cwd=directory, env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        reason = (done.stderr or done.stdout).strip().rpartition("\n")[2]
        raise StartError(
            f"RabbitMQ: {failure}: {reason}",
            "Check the network and /etc/apt; or install RabbitMQ ('apt-get install "
            "rabbitmq-server'); or set CARNET_RABBITMQ_URL to a server of your own.",
        )
    return done.stdout
