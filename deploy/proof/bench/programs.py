"""nginx and wrk: installed ones, or Debian's packages, unpacked beside the results."""

import re
import shutil
from dataclasses import dataclass

from deploy.local import debian
from deploy.local.errors import StartError
from deploy.proof.bench.environment import BenchEnvironment

_PACKAGES = debian.Packages(
    folder="bench",
    names=("nginx", "nginx-common", "wrk"),
    dependencies=re.compile(r"zlib1g|lib(ssl|pcre|crypt1|luajit).*"),
    title="nginx and wrk",
    remedy="install nginx and wrk so that they are on PATH",
)


@dataclass(frozen=True)
class Programs:
    """The paths of the programs and of their libraries."""

    nginx: str
    wrk: str
    libraries: str

    @property
    def variables(self) -> dict[str, str]:
        """The environment variables of the programs."""
        return {"LD_LIBRARY_PATH": self.libraries} if self.libraries else {}


def programs(environment: BenchEnvironment) -> Programs:
    """Return nginx and wrk. Raises StartError if they cannot be found or downloaded."""
    path = "/usr/local/sbin:/usr/sbin:/sbin"
    nginx = shutil.which("nginx") or shutil.which("nginx", path=path)
    wrk = shutil.which("wrk")
    if nginx and wrk:
        return Programs(nginx, wrk, "")
    root = environment.folder / "programs"
    if not root.exists():
        if not debian.available():
            raise StartError("nginx and wrk are not installed.", f"Please {_PACKAGES.remedy}.")
        debian.unpack(_PACKAGES, root, lambda _: None, environment.say)
    return Programs(
        str(root / "usr/sbin/nginx"), str(root / "usr/bin/wrk"), debian.libraries_in(root)
    )
