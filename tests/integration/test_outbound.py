"""What the hub shows a partner's server when it delivers: its statement, or a token of the partner's own server. Over real sockets."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from typer.testing import CliRunner

from gateway.adapter_api import DeliveryFailure, NeedsPerson, Receipt, TryAgain
from gateway.cli import app
from gateway.delivery import doors
from gateway.delivery.doors import ANSWER_LIMIT, HttpTransport, check_reply
from gateway.identity import ShelfId
from gateway.oauth import smart_tokens
from gateway.oauth.answers import forgetful
from gateway.oauth.outbound import Outbound, read_client_key
from gateway.oauth.partner_keys import read_jwks
from gateway.parties.model import Endpoint, SmartAuth, Transport
from tests.integration.partners import ROGUES, Answer, Heard, Partner, partner, plain, reply


class Smart:
    """A partner with a token endpoint and a FHIR endpoint on one server. Counts tokens; refuses those below `accept`."""

    def __init__(self, key: ec.EllipticCurvePublicKey) -> None:
        self.key = key
        self.tokens = 0
        self.accept = 0
        self.jtis: list[str] = []
        self.delay = 0.0
        self.at_token: Answer | None = None
        self.lifetime: Any = 300

    async def answer(self, heard: Heard, out: asyncio.StreamWriter) -> None:
        if heard.target == "/token":
            await asyncio.sleep(self.delay)
            if self.at_token is not None:
                return await self.at_token(heard, out)
            claims = jwt.decode(
                heard.form["client_assertion"],
                self.key,
                algorithms=["ES384"],
                audience=f"http://{heard.headers['host']}/token",
                options={"verify_iat": False, "verify_exp": False},
            )
            assert claims["iss"] == claims["sub"] == "hub-here" and heard.form["scope"] == "system/Bundle.c"
            assert 0 < claims["exp"] - claims["iat"] <= 240
            self.jtis.append(claims["jti"])
            self.tokens += 1
            return await reply(200, {"access_token": f"t{self.tokens}", "expires_in": self.lifetime})(heard, out)
        number = int(heard.bearer.removeprefix("t") or 0)
        out.write(plain(200 if number > self.accept else 401))


@pytest.fixture
async def http() -> AsyncIterator[httpx.AsyncClient]:
    async with forgetful(httpx.AsyncClient()) as client:
        yield client


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    file = tmp_path / "hub-at-partner.pem"
    pem = ec.generate_private_key(ec.SECP384R1()).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    file.write_bytes(pem)
    file.chmod(0o600)
    return file


def public(file: Path) -> ec.EllipticCurvePublicKey:
    key = read_client_key(file).private.public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)
    return key


def endpoint(server: Partner, key_file: Path | None = None) -> Endpoint:
    auth = None if key_file is None else SmartAuth(f"{server.origin}/token", "hub-here", "system/Bundle.c", str(key_file))
    return Endpoint("x", ShelfId("x"), Transport.FHIR_PUSH, f"{server.origin}/fhir", auth)


def outbound(http: httpx.AsyncClient, now: Any = time.time) -> Outbound:
    return Outbound(http, statement=lambda audience: f"statement for {audience}", now=now)


async def test_an_endpoint_without_a_server_of_its_own_gets_a_statement_for_its_address_and_no_second_one(http: httpx.AsyncClient) -> None:
    async with partner(reply(401)) as server:
        there = endpoint(server)
        got = await HttpTransport(http, there, outbound(http)).send("POST", "", body=b"{}", headers={"authorization": "Bearer other"})
        assert got.status == 401
        assert [heard.bearer for heard in server.heard] == [f"statement for {there.address}"]


async def test_a_token_is_asked_for_once_for_all_deliveries_and_kept(http: httpx.AsyncClient, key_file: Path) -> None:
    smart = Smart(public(key_file))
    smart.delay = 0.05
    async with partner(smart.answer) as server:
        clock = [time.time()]
        who = outbound(http, lambda: clock[0])
        to = [HttpTransport(http, endpoint(server, key_file), who) for _ in range(12)]
        answers = await asyncio.gather(*(one.send("POST", "", body=b"{}") for one in to))
        assert {answer.status for answer in answers} == {200} and smart.tokens == 1
        clock[0] += 269
        await to[0].send("POST", "")
        assert smart.tokens == 1
        clock[0] += 2
        await to[0].send("POST", "")
        assert smart.tokens == 2 and len(set(smart.jtis)) == 2


async def test_a_refused_token_is_replaced_once(http: httpx.AsyncClient, key_file: Path) -> None:
    smart = Smart(public(key_file))
    async with partner(smart.answer) as server:
        to = HttpTransport(http, endpoint(server, key_file), outbound(http))
        await to.send("POST", "")
        smart.accept = 1
        assert (await to.send("POST", "", body=b"{}")).status == 200 and smart.tokens == 2
        smart.accept = 99
        last = await to.send("POST", "", body=b"{}")
        assert last.status == 401 and smart.tokens == 3
        with pytest.raises(NeedsPerson, match="not-let-in"):
            check_reply(last)


async def test_another_registration_gets_another_token(http: httpx.AsyncClient, key_file: Path) -> None:
    smart = Smart(public(key_file))
    async with partner(smart.answer) as server:
        who, first = outbound(http), endpoint(server, key_file)
        await HttpTransport(http, first, who).send("POST", "")
        moved = replace(first, address=f"{server.origin}/fhir/r4")
        await HttpTransport(http, moved, who).send("POST", "")
        assert smart.tokens == 2


async def test_a_token_goes_nowhere_but_to_the_registered_address(http: httpx.AsyncClient, key_file: Path) -> None:
    smart = Smart(public(key_file))
    async with partner(reply(200)) as elsewhere, partner(smart.answer) as server:
        who = outbound(http)
        for path in ("//evil.test/x", f"{elsewhere.origin}/x", "@evil.test/", "/../x"):
            with pytest.raises(NeedsPerson):
                await HttpTransport(http, endpoint(server, key_file), who).send("POST", path)
        assert server.heard == []

        async def away(heard: Heard, out: asyncio.StreamWriter) -> None:
            if heard.target == "/token":
                return await smart.answer(heard, out)
            out.write(plain(307, Location=f"{elsewhere.origin}/fhir", Set_Cookie="seen=1"))

        server.answer = away
        to = HttpTransport(http, endpoint(server, key_file), who)
        assert (await to.send("POST", "")).status == 307
        await to.send("POST", "")
        assert elsewhere.heard == [] and all("cookie" not in heard.headers for heard in server.heard)

        smart.at_token = reply(307, None, Location=f"{elsewhere.origin}/token")
        with pytest.raises(TryAgain, match="no-token"):
            await HttpTransport(http, endpoint(server, key_file), outbound(http)).send("POST", "")
        assert elsewhere.heard == []


@pytest.mark.parametrize("rogue", ROGUES)
async def test_a_token_endpoint_that_misbehaves_costs_little_and_is_tried_again(
    rogue: str, http: httpx.AsyncClient, key_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(smart_tokens, "TOKEN_SECONDS", 0.3)
    smart = Smart(public(key_file))
    smart.at_token = ROGUES[rogue]
    async with partner(smart.answer) as server:
        who, began = outbound(http), time.monotonic()
        sends = [HttpTransport(http, endpoint(server, key_file), who).send("POST", "", body=b"{}") for _ in range(5)]
        failed = await asyncio.gather(*sends, return_exceptions=True)
        assert all(isinstance(one, TryAgain) for one in failed), failed
        assert time.monotonic() - began < 2.0
        assert [heard.target for heard in server.heard] == ["/token"]


@pytest.mark.parametrize("rogue", ROGUES)
async def test_an_endpoint_that_misbehaves_is_cut_off(rogue: str, http: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doors, "SECONDS", 0.3)
    async with partner(ROGUES[rogue]) as server:
        began = time.monotonic()
        try:
            got: Receipt | DeliveryFailure = check_reply(
                await HttpTransport(http, endpoint(server), outbound(http)).send("POST", "", body=b"{}")
            )
        except DeliveryFailure as failure:
            got = failure
        # whoever answered 200 and then too much has taken it
        assert isinstance(got, Receipt) == (rogue in ("sends-10-MB", "sends-a-gzip-bomb")), got
        assert isinstance(got, Receipt | TryAgain) and time.monotonic() - began < 2.0


async def test_an_answer_longer_than_needed_is_cut(http: httpx.AsyncClient) -> None:
    async with partner(ROGUES["sends-10-MB"]) as server:
        got = await HttpTransport(http, endpoint(server), outbound(http)).send("POST", "")
        assert (got.status, len(got.body)) == (200, ANSWER_LIMIT)


@pytest.mark.parametrize("said", [{"error": "invalid_client"}, {"error": "x" * 100}, ["no"], {"access_token": "t1\r\nX: y"}])
async def test_a_refusal_needs_a_person(said: Any, http: httpx.AsyncClient, key_file: Path) -> None:
    smart = Smart(public(key_file))
    smart.at_token = reply(400, said)
    async with partner(smart.answer) as server:
        with pytest.raises(NeedsPerson, match="no-token"):
            await HttpTransport(http, endpoint(server, key_file), outbound(http)).send("POST", "")


@pytest.mark.parametrize(
    "said", [{}, {"access_token": ""}, {"access_token": "t1\r\nX: y"}, {"access_token": "t1", "expires_in": "soon"}, []]
)
async def test_what_is_no_token_is_not_used(said: Any, http: httpx.AsyncClient, key_file: Path) -> None:
    smart = Smart(public(key_file))
    smart.at_token = reply(200, said)
    async with partner(smart.answer) as server:
        with pytest.raises(TryAgain, match="no-token"):
            await HttpTransport(http, endpoint(server, key_file), outbound(http)).send("POST", "")
        assert [heard.target for heard in server.heard] == ["/token"]


async def test_a_key_that_is_gone_needs_a_person(http: httpx.AsyncClient, key_file: Path) -> None:
    async with partner(reply(200)) as server:
        there = endpoint(server, key_file)
        os.remove(key_file)
        with pytest.raises(NeedsPerson, match="no-key"):
            await HttpTransport(http, there, outbound(http)).send("POST", "")


def test_the_operator_makes_a_key_and_gets_what_the_partner_needs(tmp_path: Path) -> None:
    file, runner = tmp_path / "keys" / "lakeridge.pem", CliRunner()
    first = runner.invoke(app, ["keys", "partner", str(file)])
    assert first.exit_code == 0 and file.stat().st_mode & 0o777 == 0o600
    [key] = json.loads(first.stdout)["keys"]
    assert (key["alg"], key["crv"], "d" in key) == ("ES384", "P-384", False)
    assert read_jwks({"keys": [key]}).problems == ()
    assert runner.invoke(app, ["keys", "partner", str(file)]).stdout == first.stdout
    file.chmod(0o644)
    refused = runner.invoke(app, ["keys", "partner", str(file)])
    assert refused.exit_code == 1 and "readable by others" in refused.stderr
