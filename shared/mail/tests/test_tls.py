"""Encryption and sign-in: STARTTLS with a verified certificate, and no password in clear."""

import datetime
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from shared.mail.settings import SmtpServer
from shared.mail.smtp import SmtpConnection, Unreachable
from shared.testing_mail import ReceivingServer

pytestmark = pytest.mark.anyio


def make_certificate(folder: Path) -> tuple[Path, Path]:
    """Write a certificate of 127.0.0.1 that signs itself, and its key; return the files."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    moment = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(moment - datetime.timedelta(days=1))
        .not_valid_after(moment + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    files = folder / "certificate.pem", folder / "key.pem"
    files[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    files[1].write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return files


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return make_certificate(tmp_path_factory.mktemp("tls"))


@pytest.fixture
async def secure_server(certificate: tuple[Path, Path]) -> AsyncIterator[ReceivingServer]:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*certificate)
    server = ReceivingServer(tls=context, user="carnet", password="pass")
    await server.start()
    yield server
    await server.stop()


def connection_to(server: ReceivingServer, secret: str = "carnet:pass@") -> SmtpConnection:
    url = f"smtp+starttls://{secret}localhost:{server.port}"
    return SmtpConnection(SmtpServer.of_url(url))


async def test_a_trusted_server_gets_the_password(
    secure_server: ReceivingServer,
    certificate: tuple[Path, Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate[0]))
    connection = connection_to(secure_server)
    await connection.open()
    await connection.close()


async def test_a_wrong_password_is_an_outage_and_not_shown(
    secure_server: ReceivingServer,
    certificate: tuple[Path, Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate[0]))
    with pytest.raises(Unreachable, match="535") as error:
        await connection_to(secure_server, "carnet:canary@").open()
    assert "canary" not in str(error.value)


async def test_an_unknown_certificate_is_refused(secure_server: ReceivingServer) -> None:
    with pytest.raises(Unreachable, match="certificate"):
        await connection_to(secure_server).open()


async def test_required_encryption_is_not_skipped(smtp: ReceivingServer) -> None:
    with pytest.raises(Unreachable, match="STARTTLS"):
        await connection_to(smtp).open()
    assert not smtp.messages


def test_a_password_needs_encryption_unless_the_server_is_local() -> None:
    assert SmtpServer.of_url("smtp://a:b@localhost").is_local
    assert SmtpServer.of_url("smtp://a:b@[::1]").is_local
    assert not SmtpServer.of_url("smtp://a:b@mail.example").is_local
