"""Several processes behind one name: each gets its share, new ones at once, ended ones none."""

import asyncio
import datetime
import ssl
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from yarl import URL

from gateway.tests.conftest import Stack, bearer, open_stack, raw_upstream, read_head
from shared.testing import until

pytestmark = pytest.mark.anyio

NAME = "vouchers.test"
SOON = 0.05  # seconds between two look-ups


class Process:
    """One of the processes behind the name; they share a port, each at an address of its own."""

    def __init__(self, host: str) -> None:
        self.host = host
        self.asked = 0
        self.open = 0
        self.answers = asyncio.Event()
        self.answers.set()

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.open += 1
        try:
            while True:
                await read_head(reader)
                self.asked += 1
                await self.answers.wait()
                body = self.host.encode()
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        finally:
            self.open -= 1


class NameServer:
    """Resolves the name to the addresses of a test, or to none."""

    def __init__(self, *hosts: str) -> None:
        self.hosts: Sequence[str] = hosts
        self.asked = 0

    async def __call__(self, name: str, port: int) -> Sequence[str]:
        assert name == NAME
        self.asked += 1
        if not self.hosts:
            raise OSError("no such name")
        return self.hosts


@asynccontextmanager
async def processes(count: int) -> AsyncIterator[tuple[list[Process], int]]:
    """So many processes, and the port they share."""
    async with AsyncExitStack() as opened:
        made = [Process(f"127.0.0.{number}") for number in range(1, count + 1)]
        port = 0
        for process in made:
            url = URL(await opened.enter_async_context(raw_upstream(process, process.host, port)))
            assert url.port is not None
            port = url.port
        yield made, port


@asynccontextmanager
async def behind_the_name(names: NameServer, port: int, **settings: float) -> AsyncIterator[Stack]:
    """A gateway that knows the service by its name alone, and has looked it up."""
    url = (f"http://{NAME}:{port}",)
    async with open_stack(
        vouchers_url=url, resolve=names, resolve_seconds=SOON, **settings
    ) as stack:
        await looked_up(names)
        yield stack


async def looked_up(names: NameServer) -> None:
    """Wait until a look-up that began from now on was taken in."""
    asked = names.asked
    await until(lambda: names.asked >= asked + 2)


async def who(stack: Stack, method: str = "GET") -> str:
    """Which process answered; anything else than an answer by its status."""
    answer = await stack.client.request(method, "/api/vouchers/1", headers=bearer())
    return answer.text if answer.status_code == 200 else str(answer.status_code)


async def shares(stack: Stack, count: int) -> Counter[str]:
    return Counter([await who(stack) for _ in range(count)])


async def test_every_process_behind_a_name_gets_its_share() -> None:
    async with processes(3) as (three, port):
        names = NameServer(*(process.host for process in three))
        async with behind_the_name(names, port) as stack:
            assert await shares(stack, 12) == {process.host: 4 for process in three}
            assert [process.open for process in three] == [1, 1, 1]


async def test_a_new_process_gets_requests_although_connections_to_the_old_one_are_open() -> None:
    async with processes(2) as (two, port):
        names = NameServer(two[0].host)
        async with behind_the_name(names, port) as stack:
            assert await shares(stack, 4) == {two[0].host: 4}
            names.hosts = [two[0].host, two[1].host]
            await looked_up(names)
            assert await shares(stack, 4) == {two[0].host: 2, two[1].host: 2}


async def test_a_process_that_is_gone_gets_nothing_and_ends_what_it_began() -> None:
    async with processes(2) as (two, port):
        names = NameServer(two[0].host, two[1].host)
        async with behind_the_name(names, port) as stack:
            await shares(stack, 4)
            two[1].answers.clear()
            asked = two[1].asked
            calls = [asyncio.create_task(who(stack)) for _ in range(2)]
            await until(lambda: two[1].asked > asked)
            names.hosts = [two[0].host]
            await looked_up(names)
            assert await shares(stack, 6) == {two[0].host: 6}
            two[1].answers.set()
            assert sorted(await asyncio.gather(*calls)) == [two[0].host, two[1].host]
            await until(lambda: not two[1].open)


async def test_without_a_name_server_the_known_ones_stay() -> None:
    async with processes(2) as (two, port):
        names = NameServer(two[0].host, two[1].host)
        async with behind_the_name(names, port) as stack:
            names.hosts = ()
            await looked_up(names)
            assert await shares(stack, 4) == {two[0].host: 2, two[1].host: 2}


async def test_a_name_that_is_not_known_yet_is_found_later() -> None:
    async with processes(1) as ([one], port):
        names = NameServer()
        async with behind_the_name(names, port, circuit_pause=0.1) as stack:
            assert await who(stack) == "503"
            names.hosts = [one.host]
            await looked_up(names)
            assert await who(stack) == one.host


async def test_a_process_that_hangs_costs_a_few_requests_and_no_more() -> None:
    async with processes(3) as (three, port):
        names = NameServer(*(process.host for process in three))
        settings = {"standard_timeout": 1, "circuit_failures": 2, "circuit_pause": 60}
        async with behind_the_name(names, port, **settings) as stack:
            three[1].answers.clear()
            answers = await shares(stack, 20)
            assert answers["504"] == 2
            assert answers[three[0].host] + answers[three[2].host] == 18


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_an_address_without_a_server_costs_nothing(method: str) -> None:
    async with processes(1) as ([one], port):
        names = NameServer("127.0.0.2", one.host, "127.0.0.3")
        async with behind_the_name(names, port) as stack:
            assert [await who(stack, method) for _ in range(6)] == [one.host] * 6


async def test_the_systems_own_resolver_knows_this_machine() -> None:
    async with processes(1) as ([one], port):
        url = (f"http://localhost:{port}",)
        async with open_stack(vouchers_url=url, resolve_seconds=SOON) as stack:
            for _ in range(6):
                assert await who(stack) == one.host
                await asyncio.sleep(SOON)


def certificate(folder: Path) -> Path:
    """A certificate for the name, and its key, in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, NAME)])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(NAME)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    file = folder / "certificate.pem"
    file.write_bytes(private + made.public_bytes(serialization.Encoding.PEM))
    return file


async def test_the_certificate_must_be_the_names_whatever_the_address(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = certificate(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(file))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    process = Process("127.0.0.1")
    async with raw_upstream(process, process.host, 0, context) as address:
        names = NameServer(process.host)
        settings = {"resolve": names, "resolve_seconds": SOON}
        port = URL(address).port
        async with open_stack(vouchers_url=(f"https://{NAME}:{port}",), **settings) as stack:
            await looked_up(names)
            assert await who(stack) == process.host
        async with open_stack(vouchers_url=(f"https://127.0.0.1:{port}",), **settings) as stack:
            assert await who(stack) == "503"
