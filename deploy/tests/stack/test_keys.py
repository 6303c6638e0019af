"""`carnet keys` rotates the signing key of a running system, and no request gets a 401."""

import asyncio
import base64
import json
import subprocess
import sys
import time

import httpx
import pytest

from deploy.local.stack import Stack
from deploy.local.system import CHECKOUT
from deploy.tests.stack.conftest import IN_ONE_PROCESS
from deploy.tests.stack.tenancy.cast import Caller
from deploy.tests.stack.tenancy.scene import Scene

pytestmark = [pytest.mark.anyio, IN_ONE_PROCESS]

# Less than the ten minutes of an operator, and more than the five seconds after which every
# instance of identity has read its keys again.
LEAD = 8
AFTERWARDS = 4.0
# Every service verifies tokens by itself.
PATHS = (
    "/api/auth/me",
    "/api/organizations/{id}",
    "/api/organizations/{id}/voucher-types",
    "/api/organizations/{id}/payments",
    "/api/organizations/{id}/audit-logs",
)


async def carnet(stack: Stack, *arguments: str) -> list[str]:
    """Run the command as an operator beside the system does; returns the lines it prints."""
    done = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-c", "from deploy.cli import app; app()", *arguments],
        cwd=CHECKOUT,
        env={"PATH": "", "CARNET_DATA": str(stack.settings.data)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def kid(token: str | None) -> str:
    """The key that signed a token."""
    head = (token or "").partition(".")[0]
    name: str = json.loads(base64.urlsafe_b64decode(head + "=" * (-len(head) % 4)))["kid"]
    return name


class Load:
    """A user who signs in repeatedly and uses each token at every service."""

    def __init__(self, owner: Caller) -> None:
        self._owner = owner
        self.statuses: set[int] = set()
        self.kids: list[str] = []
        self.requests = 0

    async def run(self, until: float) -> None:
        """Go on until an instant of the monotonic clock."""
        first = self._owner.token
        while time.monotonic() < until:
            await self._owner.sign_in()
            self.kids.append(kid(self._owner.token))
            for token in (first, self._owner.token):
                await asyncio.gather(*(self._try(path, token) for path in PATHS))

    async def _try(self, path: str, token: str | None) -> None:
        answer: httpx.Response = await self._owner.api.get(
            path.format(id=self._owner.organization_id),
            headers={"Authorization": f"Bearer {token}"},
        )
        self.statuses.add(answer.status_code)
        self.requests += 1


async def test_a_rotation_under_load_causes_no_401(scene: Scene, stack: Stack) -> None:
    owner = scene.cast.owner
    await owner.sign_in()
    before = kid(owner.token)
    lines = await carnet(stack, "keys", "rotate", "--after", str(LEAD))
    assert "waiting" in lines[0]
    assert any(line.startswith(before) and "published" in line for line in lines[1:])
    load = Load(owner)
    await load.run(time.monotonic() + LEAD + AFTERWARDS)
    new = lines[0].split()[0]
    assert load.kids[-1] == new, "the new key signs"
    assert load.kids == sorted(load.kids, key=[before, new].index), "and from then on it alone"
    assert load.statuses == {200}
    listed = await carnet(stack, "keys", "list")
    assert [line.split()[1] for line in listed[:2]] == ["published", "published"]
