"""The programs of RabbitMQ and Erlang: those of the system, or unpacked Debian packages."""

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
    dependencies=re.compile(
        r"erlang-.*|zlib1g|lib(ssl|stdc\+\+|tinfo|systemd|cap2|gcrypt|gpg-error|lz4|lzma|zstd).*"
    ),
    title="RabbitMQ and Erlang (40 MB)",
    remedy="install RabbitMQ ('apt-get install rabbitmq-server'); or set CARNET_RABBITMQ_URL to a "
    "server of your own",
)
_SERVERS = "usr/lib/rabbitmq/lib/rabbitmq_server-*/sbin/rabbitmq-server"


@dataclass(frozen=True)
class Installation:
    """The server's script, Erlang's name server, and the environment that both need."""

    server: Path
    epmd: Path
    environment: Mapping[str, str] = field(default_factory=dict)


def find_installation(folder: Path, path: str, say: Callable[[str], None]) -> Installation:
    """Return the RabbitMQ of the search path `path`, or unpack one into `folder`.

    Raises StartError when neither is possible.
    """
    return _installed(path) or _unpacked(folder, path, say)


def _installed(path: str) -> Installation | None:
    # Debian's rabbitmq-server on PATH requires its own user; the script behind it does not.
    scripts = sorted(Path("/").glob(_SERVERS))
    on_path = shutil.which("rabbitmq-server", path=path)
    server = scripts[-1] if scripts else Path(on_path) if on_path else None
    if server is None or shutil.which("erl", path=path) is None:
        return None
    epmd = shutil.which("epmd", path=path) or max(Path("/usr/lib/erlang").glob("erts-*/bin/epmd"))
    return Installation(server, Path(epmd))


def _unpacked(folder: Path, path: str, say: Callable[[str], None]) -> Installation:
    root = folder / "programs"
    if not root.exists():
        if not debian.available():
            raise StartError(
                "RabbitMQ is not installed, and this system cannot unpack Debian packages.",
                "Install it so that 'rabbitmq-server' is on PATH (macOS: 'brew install rabbitmq'; "
                "Fedora: 'dnf install rabbitmq-server'), or set CARNET_RABBITMQ_URL to a server "
                "of your own, as amqp://user:password@host:5672/",
            )
        debian.unpack(_PACKAGES, root, _remove_plugins, say)
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


def _write_launcher(folder: Path, erlang: Path, runtime: Path) -> Path:
    """Write an `erl` for the unpacked tree: Debian's has the fixed path /usr/lib/erlang."""
    folder.mkdir(exist_ok=True)
    launcher = folder / "erl"
    launcher.write_text(
        "#!/bin/sh\n"
        f"export ROOTDIR='{erlang}' BINDIR='{runtime}' EMU=beam PROGNAME=erl\n"
        'exec "$BINDIR/erlexec" "$@"\n'
    )
    launcher.chmod(0o755)
    return launcher


def _remove_plugins(root: Path) -> None:
    """Remove the plugins that the server itself does not need.

    Erlang looks for each module in each folder: with all 65 plugins a start takes 8 s, with the 20
    that are needed 3 s.
    """
    for plugins in root.glob("usr/lib/rabbitmq/lib/rabbitmq_server-*/plugins"):
        folders = {folder.name.rpartition("-")[0]: folder for folder in plugins.glob("*-*/")}
        required: set[str] = set()
        unread = {"rabbit"}
        while unread:
            name = unread.pop()
            required.add(name)
            # The applications that this one needs by its `.app` file.
            text = (folders[name] / "ebin" / f"{name}.app").read_text()
            lists = re.findall(r"\{(?:|included_)applications,\s*\[([^\]]*)\]", text)
            names = {word.strip(" '\n\t") for line in lists for word in line.split(",")}
            unread |= names & folders.keys() - required
        for name in folders.keys() - required:
            shutil.rmtree(folders[name])
