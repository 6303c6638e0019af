"""Accounts in the running system: messages arrive, and their links work through the gateway."""

import re

import httpx
import pytest

from deploy.api_client import Mailbox, Person, unique
from deploy.demo.story import Story
from deploy.tests.stack.conftest import IN_ONE_PROCESS

pytestmark = [pytest.mark.anyio, IN_ONE_PROCESS]

NEW_PASSWORD = "violet kettle drummer"


async def test_a_forgotten_password_ends_every_session(
    shared_shop: Story, mailbox: Mailbox, api: httpx.AsyncClient
) -> None:
    owner = shared_shop.owner
    email = f"{unique('forgetful')}@example.com"
    person = Person(api, "Forgetful", email, "correct horse battery")
    body = {"email": email, "name": "Forgetful", "password": person.password, "role": "client"}
    here = f"/api/organizations/{shared_shop.organization['id']}/users"
    await owner.call("POST", here, body, expect=201)
    await person.sign_in()
    await api.post("/api/auth/password-reset", json={"email": email})
    token = await mailbox.link_token(email, "/account/password")
    page = await api.get("/account/password")
    assert page.status_code == 200
    reset = {"token": token, "password": NEW_PASSWORD}
    answer = await api.post("/api/auth/password-reset/confirm", json=reset)
    assert answer.status_code == 200, answer.text
    refused = await api.post("/api/auth/login", json={"email": email, "password": person.password})
    assert refused.status_code == 401
    person.password = NEW_PASSWORD
    await person.sign_in()
    await person.call("GET", "/api/auth/me")


async def test_an_invited_therapist_joins(
    shared_shop: Story, mailbox: Mailbox, api: httpx.AsyncClient
) -> None:
    owner = shared_shop.owner
    here = f"/api/organizations/{shared_shop.organization['id']}/users"
    person = Person(api, "Therapist", f"{unique('invited')}@example.com", NEW_PASSWORD)
    body = {"email": person.email, "role": "therapist"}
    user = await owner.call("POST", here, body, expect=201)
    token = await mailbox.link_token(person.email, "/account/invitation")
    assert re.fullmatch(r"[\w-]{43}", token)
    accepted = {"token": token, "password": NEW_PASSWORD, "name": "Tamara"}
    answer = await api.post("/api/auth/invitation/accept", json=accepted)
    assert answer.status_code == 200, answer.text
    await person.sign_in()
    me = await person.call("GET", "/api/auth/me")
    assert (me["id"], me["name"], me["is_active"]) == (user["id"], "Tamara", True)
