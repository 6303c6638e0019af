"""The sample, upgraded: every rule of conversion, once."""

from typing import Any

import pytest

from deploy.tests.upgrade.databases import VersionOne, VersionTwo
from deploy.upgrade.data import upgrade_data
from deploy.upgrade.progress import Silence
from deploy.upgrade.verification import verify

pytestmark = pytest.mark.anyio


async def upgraded(v1: VersionOne, v2: VersionTwo, system_admin: str | None = None) -> Any:
    return await upgrade_data(v2.target, v1.reader, system_admin, Silence())


async def test_the_sample_passes_every_check(v1: VersionOne, v2: VersionTwo) -> None:
    await upgraded(v1, v2)
    verdict = await verify(v2.target, v1.reader)
    assert [check for check in verdict.checks if not check.passed] == []
    assert verdict.answers is not None
