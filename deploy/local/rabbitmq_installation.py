"""The RabbitMQ and the Erlang to run: the system's own, else Debian's packages unpacked."""

import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from deploy.local import debian
from deploy.local.errors import StartError

_PACKAGES = debian.Packages(
    folder="rabbitmq",
    names=("rabbitmq-server",),
    wanted=re.compile(
        r"erlang-.*|zlib1g|lib(ssl|stdc\+\+|tinfo|systemd|cap2|gcrypt|gpg-error|lz4|lzma|zstd).*"
    ),
    told="RabbitMQ and Erlang (40 MB)",
    remedy="install RabbitMQ ('apt-get install rabbitmq-server'); or set CARNET_RABBITMQ_URL to a "
    "server of your own",
)
_SERVERS = "usr/lib/rabbitmq/lib/rabbitmq_server-*/sbin/rabbitmq-server"


@dataclass(frozen=True)
class Installation:
    """The server's script, Erlang's name server, and the environment both need."""

    server: Path
    epmd: Path
    environment: Mapping[str, str] = field(default_factory=dict)


def find_installation(folder: Path, path: str, say: Callable[[str], None]) -> Installation:
    """Return the RabbitMQ to run with the search path `path`; unpack one into `folder` if need be.

    Raises StartError when there is none and none can be had.
    """
    return _installed(path) or _unpacked(folder, path, say)


def _installed(path: str) -> Installation | None:
    # Debian's own rabbitmq-server on PATH insists on its own user; the real script does not.
    real = sorted(Path("/").glob(_SERVERS))
    on_path = shutil.which("rabbitmq-server", path=path)
    server = real[-1] if real else Path(on_path) if on_path else None
    if server is None or shutil.which("erl", path=path) is None:
        return None
    epmd = shutil.which("epmd", path=path) or max(Path("/usr/lib/erlang").glob("erts-*/bin/epmd"))
    return Installation(server, Path(epmd))


def _unpacked(folder: Path, path: str, say: Callable[[str], None]) -> Installation:
    root = folder / "programs"
    if not root.exists():
        _require_debian()
        debian.unpack(_PACKAGES, root, _leave_out_plugins, say)
    servers = sorted(root.glob(_SERVERS))
    erlang = root / "usr" / "lib" / "erlang"
    runtimes = sorted(erlang.glob("erts-*/bin"))
    if not servers or not runtimes:
        raise StartError(f"{root} holds no RabbitMQ.", f"Remove {root} and start again.")
    launcher = _write_launcher(folder / "bin", erlang, runtimes[-1])
    environment = {
        "PATH": f"{launcher.parent}:{runtimes[-1]}:{erlang / 'bin'}:{path}",
        "ERL_ROOTDIR": str(erlang),
        "LD_LIBRARY_PATH": debian.libraries_in(root),
    }
    return Installation(servers[-1], runtimes[-1] / "epmd", environment)


def _require_debian() -> None:
    if debian.available():
        return
    raise StartError(
        "RabbitMQ is not installed, and this system has no Debian packages to take it from.",
        "Install it so that 'rabbitmq-server' is on PATH (macOS: 'brew install rabbitmq'; "
        "Fedora: 'dnf install rabbitmq-server'), or set CARNET_RABBITMQ_URL to a server of your "
        "own, as amqp://user:password@host:5672/",
    )


def _write_launcher(folder: Path, erlang: Path, runtime: Path) -> Path:
    """Write an `erl` for a tree that was moved: Debian's knows no place but /usr/lib/erlang."""
    folder.mkdir(exist_ok=True)
    launcher = folder / "erl"
    launcher.write_text(
        "#!/bin/sh\n"
        f"export ROOTDIR='{erlang}' BINDIR='{runtime}' EMU=beam PROGNAME=erl\n"
        'exec "$BINDIR/erlexec" "$@"\n'
    )
    launcher.chmod(0o755)
    return launcher


def _leave_out_plugins(root: Path) -> None:
    """Remove plugins the server itself does not need.

    Erlang looks for each module in each folder: with 65 of them the server needs 8 s to start,
    with the 20 it needs 3 s.
    """
    for plugins in root.glob("usr/lib/rabbitmq/lib/rabbitmq_server-*/plugins"):
        folders = {found.name.rpartition("-")[0]: found for found in plugins.glob("*-*/")}
        for name in folders.keys() - _needed(folders):
            shutil.rmtree(folders[name])


def _needed(folders: Mapping[str, Path]) -> set[str]:
    needed: set[str] = set()
    open_ends = {"rabbit"}
    while open_ends:
        name = open_ends.pop()
        needed.add(name)
        open_ends |= _required_by(name, folders[name]) & folders.keys() - needed
    return needed


def _required_by(name: str, folder: Path) -> set[str]:
    """Return the applications an Erlang application names as needed in its `.app` file."""
    text = (folder / "ebin" / f"{name}.app").read_text()
    lists = re.findall(r"\{(?:applications|included_applications),\s*\[([^\]]*)\]", text)
    return {word.strip(" '\n\t") for found in lists for word in found.split(",")}
