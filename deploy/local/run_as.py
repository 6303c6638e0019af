"""The user that PostgreSQL runs as when root starts it: it refuses to run as root.

That user may not be allowed to pass the folders above the checkout (a clone below /root, a private
temporary folder). Their permissions are not changed. Instead the server gets one capability, the
smallest that is enough (capabilities(7)).
"""

import ctypes
import os
import pwd
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from deploy.local.errors import StartError

_PR_SET_SECUREBITS = 28
_SECBIT_NO_SETUID_FIXUP = 1 << 2
_PR_CAP_AMBIENT = 47
_PR_CAP_AMBIENT_RAISE = 2
_CAPABILITY_VERSION_3 = 0x20080522
_DAC_OVERRIDE = 1
_DAC_READ_SEARCH = 2
_LIBC = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True)
class SystemUser:
    """A user of the operating system, and the capability that its process keeps, if any."""

    name: str
    uid: int
    gid: int
    capability: int | None = None

    def become(self) -> None:
        """Change the user of this process from root to this one. Call it in a child before exec."""
        if self.capability is not None:
            # Otherwise the change of user removes every capability, and access(2), which
            # PostgreSQL calls for its own programs, would ignore this one.
            _prctl(_PR_SET_SECUREBITS, _SECBIT_NO_SETUID_FIXUP, 0)
        os.setgroups([])
        os.setresgid(self.gid, self.gid, self.gid)
        os.setresuid(self.uid, self.uid, self.uid)
        os.environ.pop("HOME", None)
        if self.capability is not None:
            _keep_only(self.capability)


def user_to_run_as(owned: Path) -> SystemUser | None:
    """Return the user that a server runs as: None unless we are root, else the owner of `owned`.

    If root owns it, the user is `nobody`. Raises StartError when the system has no such user.
    """
    if os.geteuid() != 0:
        return None
    owner = owned.stat()
    if owner.st_uid != 0:
        try:
            name = pwd.getpwuid(owner.st_uid).pw_name
        except KeyError:  # usual in containers
            name = str(owner.st_uid)
        return SystemUser(name, owner.st_uid, owner.st_gid)
    try:
        nobody = pwd.getpwnam("nobody")
    except KeyError as error:
        raise StartError(
            "PostgreSQL does not run as root, and this system has no other user to run it as.",
            "Run as an ordinary user, or add a user named 'nobody'.",
        ) from error
    return SystemUser(nobody.pw_name, nobody.pw_uid, nobody.pw_gid)


def with_access(user: SystemUser, command: list[str], *, read: Path, write: Path) -> SystemUser:
    """Return `user` with the capability to run `command`, read a file and write a folder.

    Raises StartError when none of our capabilities is enough.
    """
    for capability in (None, _DAC_READ_SEARCH, _DAC_OVERRIDE):
        candidate = SystemUser(user.name, user.uid, user.gid, capability)
        if _works(candidate, command, read, write):
            return candidate
    raise StartError(
        f"PostgreSQL does not run as root, and user '{user.name}' cannot reach {write} "
        "or the programs of the virtual environment.",
        "Clone into a folder that every user may pass (below /srv or /opt), run as an ordinary "
        "user, or use a server of your own with CARNET_DATABASE_URL.",
    )


def _works(user: SystemUser, command: list[str], read: Path, write: Path) -> bool:
    def probe() -> None:
        user.become()
        read.open("rb").close()
        if not os.access(command[0], os.R_OK | os.X_OK):
            raise PermissionError(command[0])
        trial = write / ".trial"
        trial.touch()
        trial.unlink()

    try:
        process = subprocess.run(command, preexec_fn=probe, capture_output=True, check=False)
    except (OSError, subprocess.SubprocessError):
        return False
    return process.returncode == 0


def _prctl(option: int, second: int, third: int) -> None:
    if _LIBC.prctl(option, second, third, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl")


def _keep_only(capability: int) -> None:
    """Drop every capability except one, and keep that one over exec as an ambient capability."""
    if sys.platform != "linux":
        raise OSError("capabilities exist on Linux only")
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    bit = 1 << capability  # both of ours are below 32: the first of the two words
    words = (ctypes.c_uint32 * 6)(bit, bit, bit, 0, 0, 0)  # effective, permitted, inheritable
    if _LIBC.capset(header, words) != 0:
        raise OSError(ctypes.get_errno(), "capset")
    _prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE, capability)
