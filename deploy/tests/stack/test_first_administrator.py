"""The first administrator is created once; the settings of later starts change nothing."""

from dataclasses import replace
from pathlib import Path

import pytest

from deploy.local.preparation import Administrator, Preparation
from deploy.local.stack import Stack
from deploy.local.summary import summary
from deploy.tests.stack.conftest import IN_ONE_PROCESS, Rows

pytestmark = [pytest.mark.anyio, IN_ONE_PROCESS]

ADMINISTRATORS = "SELECT id, email FROM identity.users WHERE role = 'admin' ORDER BY id"


async def test_later_values_change_nothing_and_are_known_to_differ(
    stack: Stack, rows: Rows, tmp_path: Path
) -> None:
    before = await rows(ADMINISTRATORS)
    later = ("other@example.com", "quite another passphrase")
    preparation = Preparation(tmp_path, stack.system, later, stack.supervisor, print)
    there = Administrator(stack.admin_email, made=False, password_matches=False)
    assert await preparation.run() == there
    assert await preparation.run() == there  # from its record, without another look
    assert await rows(ADMINISTRATORS) == before


async def test_the_generated_password_is_shown_once(stack: Stack) -> None:
    administrator = stack.administrator
    assert administrator is not None
    shown = summary(stack, 1.0)
    assert administrator.made
    assert shown.count(stack.admin_password) == 1
    try:
        stack.administrator = replace(administrator, made=False)
        assert stack.admin_password not in summary(stack, 1.0)
        assert "stored in" in summary(stack, 1.0)
        stack.administrator = replace(administrator, made=False, password_matches=False)
        assert "not known here" in summary(stack, 1.0)
    finally:
        stack.administrator = administrator
