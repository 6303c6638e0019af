"""A user is created with a new organization, which exists a moment after the answer."""

import asyncio

import httpx
import pytest

from deploy.api_client import unique
from deploy.tests.stack.conftest import IN_ONE_PROCESS
from deploy.tests.stack.tenancy.cast import PASSWORD, Caller
from deploy.tests.stack.tenancy.scene import Scene

pytestmark = [pytest.mark.anyio, IN_ONE_PROCESS]


async def test_the_user_owns_it_a_moment_later(scene: Scene, api: httpx.AsyncClient) -> None:
    admin, name = scene.cast.admin, unique("Requested")
    owner = Caller(api=api, name="owner", email=f"{unique('requested')}@example.com")
    body = {
        "email": owner.email,
        "name": "Owner",
        "password": PASSWORD,
        "role": "organization_owner",
        "organization_name": name,
    }
    made = await admin.call("POST", "/api/admin/users", body, expect=201)
    assert (made["organization_id"], made["requested_organization"]) == (None, name)
    async with asyncio.timeout(30):
        while made["requested_organization"] is not None:
            await asyncio.sleep(0.1)
            made = await admin.call("GET", f"/api/admin/users/{made['id']}")
    assert made["organization_id"] is not None
    assert made["is_organization_owner"]
    await owner.sign_in()
    here = f"/api/organizations/{made['organization_id']}"
    assert (await owner.call("GET", here))["name"] == name
    assert [user["id"] for user in await owner.call("GET", f"{here}/users")] == [made["id"]]
