"""Docker Compose's broker has a user for each process, with the password that the process gets."""

import base64
import hashlib
import json
import stat
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from deploy.docker import broker_definitions
from deploy.docker.tests.test_compose import Services, document, services
from deploy.local.system import CHECKOUT
from deploy.operate.broker import access

__all__ = ["document", "services"]


@pytest.mark.parametrize("user", access.USERS)
def test_each_process_signs_in_to_the_broker_with_the_password_that_its_user_is_given(
    user: str, services: Services
) -> None:
    [url] = [
        value
        for name, service in services.items()
        if name in (user, "dead-letters")
        for variable, value in service["environment"].items()
        if variable == access.url_variable(user)
    ]
    parts = urlsplit(url)
    assert (parts.username, access.virtual_host(url)) == (user, broker_definitions.HOST)
    given = services["broker-definitions"]["environment"]
    made = broker_definitions.definitions(given)
    [account] = [each for each in made["users"] if each["name"] == user]
    salted = base64.b64decode(account["password_hash"])
    password = (parts.password or "").encode()
    assert salted[4:] == hashlib.sha256(salted[:4] + password).digest()
    assert account["tags"] == ""


def test_the_broker_imports_what_the_job_writes(services: Services) -> None:
    volumes = services["rabbitmq"]["volumes"]
    job = services["broker-definitions"]
    [conf] = [v.split(":")[0] for v in volumes if "/etc/rabbitmq/conf.d/" in v]
    setting = (CHECKOUT / conf).read_text().splitlines()[-1]
    assert setting == f"load_definitions = {job['command'][1]}"
    folder = job["command"][1].rpartition("/")[0]
    assert f"broker-definitions:{folder}:ro" in volumes
    assert job["volumes"] == [f"broker-definitions:{folder}"]
    assert services["rabbitmq"]["depends_on"] == {
        "broker-definitions": {"condition": "service_completed_successfully"}
    }
    assert "environment" not in services["rabbitmq"]


def test_the_definitions_are_complete_or_refused(services: Services, tmp_path: Path) -> None:
    given = services["broker-definitions"]["environment"]
    for name in given:
        with pytest.raises(LookupError, match=name):
            broker_definitions.definitions({**given, name: ""})
    file = tmp_path / "definitions.json"
    for _ in range(2):
        broker_definitions.write(file, json.dumps(broker_definitions.definitions(given)))
        assert not [password for password in given.values() if password in file.read_text()]
        assert stat.S_IMODE(file.stat().st_mode) == 0o644
