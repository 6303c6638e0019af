"""The generated secrets are ones the services can use."""

import json
import os
import shlex
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from joserfc import jwt
from joserfc.jwk import ECKey, KeySet

from deploy.docker.environment import CHECKOUT, SERVICES, SIGNERS, rendered, sections, write_new
from deploy.docker.internal_keys import ORDER, P, private_key, public_key, public_point
from deploy.local import system


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command with no package installed, as on a machine with Docker alone."""
    command = [sys.executable, "-S", "-m", "deploy.docker.environment", *arguments]
    return subprocess.run(
        command,
        cwd=CHECKOUT,
        env={"PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        check=False,
    )


def read(file: Path) -> dict[str, str]:
    """Read an env file as a shell would."""
    assignments = [line for line in file.read_text().splitlines() if line and line[0] != "#"]
    return dict(shlex.split(line)[0].partition("=")[::2] for line in assignments)


def test_it_writes_a_private_file_and_never_over_one(tmp_path: Path) -> None:
    file = tmp_path / ".env"
    first = run("admin@example.com", "--file", str(file))
    assert first.returncode == 0, first.stderr
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert "STRIPE_API_KEY" in first.stdout
    before = file.read_text()
    second = run("admin@example.com", "--file", str(file))
    assert second.returncode == 1
    assert "exists already" in second.stderr
    assert file.read_text() == before


@pytest.mark.parametrize("address", ["admin", "o'neill@example.com"])
def test_an_address_that_is_none_is_refused(tmp_path: Path, address: str) -> None:
    found = run(address, "--file", str(tmp_path / ".env"))
    assert found.returncode == 2
    assert not list(tmp_path.iterdir())


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    parts = sections("admin@example.com", development=True)
    write_new(tmp_path / ".env", rendered(parts))
    made = {name: value for _, variables in parts for name, value in variables.items()}
    assert read(tmp_path / ".env") == made


def test_two_files_share_no_secret() -> None:
    one, other = (
        {value for _, variables in sections("a@b.example") for value in variables.values()}
        for _ in range(2)
    )
    assert one & other == {"", "a@b.example"}


def test_each_services_signature_verifies_with_the_public_keys() -> None:
    made = {name: value for _, found in sections("a@b.example") for name, value in found.items()}
    public = KeySet.import_key_set(json.loads(made["INTERNAL_JWKS"]))
    assert not [key for key in json.loads(made["INTERNAL_JWKS"])["keys"] if "d" in key]
    for service in SIGNERS:
        key = ECKey.import_key(json.loads(made[f"{service.upper()}_INTERNAL_KEY"]))
        token = jwt.encode({"alg": "ES256", "kid": service}, {"sub": service}, key)
        assert jwt.decode(token, public, algorithms=["ES256"]).claims == {"sub": service}


def test_public_points_are_those_of_the_library() -> None:
    for number in (1, 2, 3, ORDER - 1, *(2**n + 1 for n in range(2, 255, 23))):
        numbers = ec.derive_private_key(number, ec.SECP256R1()).public_key().public_numbers()
        assert public_point(number) == (numbers.x, numbers.y)
        assert max(numbers.x, numbers.y) < P


def test_zero_has_no_public_point() -> None:
    with pytest.raises(ValueError, match="no public point"):
        public_point(0)


def test_a_public_key_keeps_everything_but_the_number() -> None:
    private = private_key("audit")
    assert private.keys() - public_key(private).keys() == {"d"}
    assert private["kid"] == "audit"


def test_the_services_are_those_of_the_system() -> None:
    assert SERVICES == system.SERVICES


def test_what_an_earlier_version_did_not_need_is_added_and_nothing_changed(tmp_path: Path) -> None:
    file = tmp_path / ".env"
    made = sections("admin@example.com")
    earlier = [(c, v) for c, v in made if not any("_RABBITMQ_PASSWORD" in name for name in v)]
    write_new(file, rendered(earlier))
    before = file.read_text()
    first = run("--add-missing", "--file", str(file))
    assert first.returncode == 0, first.stderr
    assert "IDENTITY_RABBITMQ_PASSWORD" in first.stdout
    assert file.read_text().startswith(before)
    wanted = {name for _, variables in made for name in variables}
    assert set(read(file)) == wanted
    after = file.read_text()
    assert "nothing" in run("--add-missing", "--file", str(file)).stdout
    assert file.read_text() == after
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_nothing_is_added_to_a_file_that_is_not_there(tmp_path: Path) -> None:
    assert run("--add-missing", "--file", str(tmp_path / ".env")).returncode == 1
    assert not list(tmp_path.iterdir())
