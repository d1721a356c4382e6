"""Partners' key servers over real sockets: what one does wrong costs its own clients alone, and none can lead the hub elsewhere."""

from __future__ import annotations

import asyncio
import socket
import ssl
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from gateway.oauth.addresses import PinnedTransport, Resolver, may_be_called
from gateway.oauth.jwks import FetchLimits, JwksFetcher
from gateway.oauth.keys import public_jwk
from gateway.oauth.partner_keys import AssertionAlg
from tests.integration.partners import ROGUES, Answer, Heard, Partner, partner, reply
from tests.unit.oauth.world import EC_KEY

ES384 = AssertionAlg.ES384
LIMITS = FetchLimits(timeout=0.4)


def keys(*kids: str) -> Answer:
    return reply(200, {"keys": [public_jwk(EC_KEY, kid, "ES384") for kid in kids]}, Cache_Control="max-age=300")


def fetcher(limits: FetchLimits = LIMITS) -> JwksFetcher:
    http = httpx.AsyncClient(transport=PinnedTransport(loopback=True, resolve=Resolver()))
    return JwksFetcher(http, sandbox=True, now=time.monotonic, limits=limits)


async def has(fetching: JwksFetcher, server: Partner, kid: str = "k1") -> bool:
    found = await fetching.keys(f"{server.origin}/jwks", kid, ES384)
    return found is not None and found.pick(kid, ES384) is not None


@pytest.mark.parametrize("rogue", [*ROGUES, "redirects"])
async def test_a_partner_that_misbehaves_has_no_keys_and_slows_no_other(rogue: str) -> None:
    async with partner(keys("k1")) as good, partner(keys("k1")) as bad:
        bad.answer = ROGUES.get(rogue) or reply(302, None, Location=f"{good.origin}/jwks")
        fetching, began = fetcher(), time.monotonic()
        flood = [asyncio.create_task(has(fetching, bad, f"k{number}")) for number in range(100)]
        await asyncio.sleep(0)
        assert all(await asyncio.gather(*(has(fetching, good) for _ in range(100))))
        quick = time.monotonic() - began
        assert not any(await asyncio.gather(*flood))
        assert quick < 0.3 and time.monotonic() - began < 2.0
        assert (len(bad.heard), len(good.heard)) == (1, 1)
        again = time.monotonic()
        assert not await has(fetching, bad)  # within the cool-down nobody waits
        assert time.monotonic() - again < 0.05 and len(bad.heard) == 1


async def test_keys_that_change_all_the_time_are_asked_for_once_a_cool_down() -> None:
    flips = 0

    async def flip(heard: Heard, out: asyncio.StreamWriter) -> None:
        nonlocal flips
        flips += 1
        await keys(f"k{flips}")(heard, out)

    async with partner(flip) as server:
        fetching = fetcher(FetchLimits(timeout=0.4, cool_down=0.3))
        began = time.monotonic()
        while time.monotonic() - began < 1.0:
            await asyncio.gather(*(has(fetching, server, f"x{number}") for number in range(20)))
            await asyncio.sleep(0.01)
        assert 2 <= flips <= 5
        assert await has(fetching, server, f"k{flips}")


@pytest.mark.parametrize("found", [["127.0.0.1"], ["93.184.215.14", "127.0.0.1"], ["10.0.0.1", "93.184.215.14"], []])
async def test_a_name_that_leads_inside_is_not_called(found: list[str]) -> None:
    async def inside(host: str, port: int) -> Sequence[str]:
        return found

    called: list[str] = []

    def connect(request: httpx.Request) -> httpx.Response:
        called.append(request.url.host)
        return httpx.Response(200, json={"keys": [public_jwk(EC_KEY, "k1", "ES384")]})

    http = httpx.AsyncClient(transport=PinnedTransport(loopback=False, resolve=inside, inner=httpx.MockTransport(connect)))
    fetching = JwksFetcher(http, sandbox=False, now=time.monotonic, limits=LIMITS)
    assert await fetching.keys("https://keys.partner.test/jwks", "k1", ES384) is None and called == []
    found[:] = ["93.184.215.14", "93.184.215.15"]
    assert await fetching.keys("https://other.partner.test/jwks", "k1", ES384) is not None and called == ["93.184.215.14"]


async def test_the_address_that_was_checked_is_the_one_called_and_tls_proves_the_name(tmp_path: Path) -> None:
    """The second answer of the name servers, which leads elsewhere, is never asked for."""
    answers = [["127.0.0.1"], ["192.0.2.1"]]

    async def rebinding(host: str, port: int) -> Sequence[str]:
        assert host.endswith("partner.test")
        return answers.pop(0)

    heard: list[str] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        heard.append(next(line for line in head.split("\r\n") if line.lower().startswith("host:")))
        await keys("k1")(Heard("GET", "/", {}, b""), writer)
        await writer.drain()
        writer.close()

    server_side, client_side = _tls(tmp_path, "keys.partner.test")
    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=server_side)
    port = server.sockets[0].getsockname()[1]
    inner = httpx.AsyncHTTPTransport(verify=client_side, trust_env=False)
    async with server, httpx.AsyncClient(transport=PinnedTransport(loopback=True, resolve=rebinding, inner=inner)) as http:
        fetching = JwksFetcher(http, sandbox=False, now=time.monotonic, limits=LIMITS)
        found = await fetching.keys(f"https://keys.partner.test:{port}/jwks", "k1", ES384)
        assert found is not None and found.pick("k1", ES384) is not None
        assert heard == [f"Host: keys.partner.test:{port}"] and len(answers) == 1
        answers.insert(0, ["127.0.0.1"])
        assert await fetching.keys(f"https://other.partner.test:{port}/jwks", "k1", ES384) is None  # no certificate for that name


async def test_name_servers_that_hang_hold_nobody_else_up(monkeypatch: pytest.MonkeyPatch) -> None:
    real, asked = socket.getaddrinfo, 0

    def slow(host: str, *rest: object, **more: object) -> object:
        nonlocal asked
        if host.endswith(".hangs.test"):
            asked += 1
            time.sleep(1.0)
            raise socket.gaierror
        return real(host, *rest, **more)  # type: ignore[arg-type]  # passed on as it came

    monkeypatch.setattr(socket, "getaddrinfo", slow)
    async with partner(keys("k1")) as server:
        fetching = fetcher()
        hanging = [asyncio.create_task(fetching.keys(f"https://p{number % 40}.hangs.test/jwks", "k1", ES384)) for number in range(200)]
        await asyncio.sleep(0.05)
        began = time.monotonic()
        assert await has(fetching, server)
        assert time.monotonic() - began < 0.3
        assert await asyncio.gather(*hanging) == [None] * 200 and asked == 40


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("93.184.215.14", True),
        ("2606:2800:21f:cb07:6820:80da:af6b:8b2c", True),
        *((inside, False) for inside in ("127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1")),
        *((inside, False) for inside in ("0.0.0.0", "255.255.255.255", "224.0.0.1", "240.0.0.1", "192.0.2.1", "198.18.0.1")),
        *((inside, False) for inside in ("::", "::1", "fe80::1", "fe80::1%eth0", "fc00::1", "fd00::1", "ff02::1", "2001:db8::1")),
        *((inside, False) for inside in ("::ffff:10.0.0.1", "::ffff:93.184.215.14", "::10.0.0.1", "fec0::1")),
        *((inside, False) for inside in ("64:ff9b::a00:1", "64:ff9b:1::a00:1", "2002:a00:1::1", "2001::1")),
        ("not-an-address", False),
    ],
)  # fmt: skip
def test_only_public_addresses_are_called(address: str, public: bool) -> None:
    assert may_be_called(address, loopback=False) is public
    assert may_be_called(address, loopback=True) is (public or address in ("127.0.0.1", "::1"))


def _tls(folder: Path, name: str) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """A server's side and a client's side that trusts just that server."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject, now = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)]), datetime.now(UTC)
    made = x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number(), now, now + timedelta(days=1))
    certificate = made.add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False).sign(key, hashes.SHA256())
    file = folder / "server.pem"
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    file.write_bytes(certificate.public_bytes(Encoding.PEM) + private)
    server, client = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH), ssl.create_default_context()
    server.load_cert_chain(file)
    client.load_verify_locations(cadata=certificate.public_bytes(Encoding.PEM).decode())
    return server, client
