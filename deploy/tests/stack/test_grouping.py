"""The tests of the one whole system run in one test process; elsewhere they would race for it."""

import os

import pytest

from deploy.tests.stack.conftest import IN_ONE_PROCESS

pytestmark = IN_ONE_PROCESS


def test_the_distributor_knows_the_group(request: pytest.FixtureRequest) -> None:
    if "PYTEST_XDIST_WORKER" not in os.environ:
        pytest.skip("there is one test process alone")
    group = IN_ONE_PROCESS.args[0]
    assert request.node.nodeid.endswith(f"@{group}")
