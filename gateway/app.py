"""The composition root: the one place where the hub is put together.

A referral's way in, top to bottom (`gateway.api.fhir` to `gateway.delivery`)::

    limit              api.limits            by source and by proven client
    authenticate       oauth.tokens          who calls: one party, one shelf
    scopes             api.edge              may it do this at all
    device             oauth.devices         may this role work from that device
    route              transfers.routing     a role or team, joined by an agreement
    parse, validate    fhir                  R4 by HL7's definitions
    admit              parties.ingest        nothing that may not be sent
    plan               transfers.service     ids, threads, grants; acts as moves
    decide             decision.decide       five gates
    minimize, render   disclosure            a view per shelf, written only if it changed
    commit             storage.writer        effect, ledger, timers and audit together, or nothing
    deliver            delivery.runner       decided again, sent, receipted
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import secrets
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import httpx
import orjson
import structlog
from fastapi import FastAPI

from gateway import __version__
from gateway.adapter_api import OutboundAdapter
from gateway.api.accounts import OF_PATIENT, OF_SYSTEM, account_routes
from gateway.api.edge import Edge
from gateway.api.fhir import TABLE, fhir_routes
from gateway.api.health import health_routes
from gateway.api.limits import Limiter, Limits, Rates, Sources
from gateway.api.nowhere import nowhere_routes
from gateway.api.oauth import routes as oauth_routes
from gateway.api.shown import Showing
from gateway.audit.checkpoint import Signer
from gateway.audit.entry import Chain
from gateway.audit.sequencer import LogDamaged, SequencerConflict
from gateway.audit.sequencer import run as sequence
from gateway.clock import Clock, SystemClock, millis
from gateway.configuration import Files, InForce
from gateway.delivery.doors import BUILT_IN, HttpTransport
from gateway.delivery.runner import EmbeddedRunner, Sender
from gateway.delivery.texts import Texts
from gateway.delivery.timers import Timers
from gateway.disclosure.release import ReleaseStep
from gateway.fhir.capability import OauthUris, SystemInteraction, capability_statement
from gateway.fhir.validate import warm
from gateway.following import Follower
from gateway.identity import Caller, ClientId, ShelfId, shelf_party
from gateway.oauth.addresses import PinnedTransport, Resolver
from gateway.oauth.answers import forgetful
from gateway.oauth.assertions import AssertionRules, AssertionVerifier
from gateway.oauth.authentication import ClientAuthentication
from gateway.oauth.callers import Callers
from gateway.oauth.devices import DeviceRule
from gateway.oauth.dpop import ProofVerifier
from gateway.oauth.introspection import TokenControl
from gateway.oauth.jwks import FetchLimits, JwksFetcher, PartnerKeys
from gateway.oauth.keys import JWKS_AGE, FolderKeys, KeyProvider, SigningKeys
from gateway.oauth.metadata import OAuthUrls
from gateway.oauth.mtls import ClientCertificates, TrustedProxies
from gateway.oauth.outbound import Outbound
from gateway.oauth.server import TokenService
from gateway.oauth.standing import FollowedRevocations, Freshness
from gateway.oauth.statement import hub_statement
from gateway.oauth.tokens import AccessTokens
from gateway.parties.model import Client, Endpoint, Policy, Transport
from gateway.parties.registration import Registrations
from gateway.settings import Settings
from gateway.shelves.shelf import Shelves
from gateway.storage.audit_store import StoredAudit
from gateway.storage.housekeeping import sweep_often
from gateway.storage.keeping import Keeping
from gateway.storage.open import open_database
from gateway.storage.registrations import StoredRevocations, TallyBook
from gateway.storage.replay import StoredReplay
from gateway.storage.sealing import Keyring
from gateway.storage.writer import Writer
from gateway.transfers.facts import Facts
from gateway.transfers.service import Referrals
from gateway.transfers.work import Parts

__all__ = ["Hub", "create_app", "open_hub"]

log = structlog.get_logger("gateway.app")
STATEMENT_DATE: Final = "2026-11-24"


@dataclass(slots=True)
class Hub:
    """The running parts that outlive a request."""

    parts: Parts
    edge: Edge
    runner: EmbeddedRunner
    audit: StoredAudit
    tokens: AccessTokens
    follower: Follower
    routes: list[Any]


def create_app(settings: Settings) -> FastAPI:
    """The ASGI application. Everything opens in its lifespan, and nothing is served before all of it is ready.

    `app.state.failure` holds what stopped it, if anything did.
    """

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        try:
            async with open_hub(settings, limits) as hub:
                app.router.routes.extend(hub.routes)
                # What lives as long as the process: the garbage collector's full looks at it held up every request for 90 ms.
                gc.collect()
                gc.freeze()
                yield
        except Exception as error:
            app.state.failure = error  # the server keeps to itself what its application failed with; whoever started it wants to know
            raise

    app = FastAPI(title="Coalition gateway", version=__version__, lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url=None)
    app.state.failure = None
    limits = _limits(settings)
    app.add_middleware(Limiter, limits=limits)
    return app


@contextlib.asynccontextmanager
async def open_hub(settings: Settings, limits: Limits | None = None) -> AsyncIterator[Hub]:
    """Open, run and close the hub, behind these rate limits or its own.

    Raises ConfigurationError, AlreadyRunning, StorageError before anything is served.
    """
    files = Files.read(settings)
    provider = FolderKeys(settings.signing_keys)
    signing = SigningKeys(tuple(provider.keys()))
    signing.follow(provider.keys(), time.time())
    warm()
    secret = settings.secret_key.read_bytes()
    opened = await open_database(settings, secret, files.loaded.policy.epoch)
    database, keyring = opened.database, opened.keyring
    writer = Writer(database, lambda: Chain(f"w-{secrets.token_hex(8)}"))
    await writer.start()
    http = forgetful(httpx.AsyncClient(follow_redirects=False, limits=httpx.Limits(max_connections=100)))
    key_http = forgetful(httpx.AsyncClient(transport=PinnedTransport(loopback=settings.sandbox, resolve=Resolver())))
    audit, stop = StoredAudit(database, writer), asyncio.Event()
    signer = Signer.from_pem(settings.audit_origin, settings.audit_key.read_bytes())
    sealing = asyncio.create_task(_sequence(audit, signer, stop), name="sequencer")
    in_force = InForce(files, Registrations(), time.time_ns() // 1_000_000)
    hub = _assemble(settings, in_force, signing, provider, database, writer, keyring, http, key_http, audit, limits or _limits(settings))
    await hub.follower.start()
    keeping = Keeping(database, writer, opened.store, lambda: time.time_ns() // 1_000_000)
    await keeping.at_start()
    keys = asyncio.create_task(keeping.run(), name="keys")
    await hub.runner.start()
    business = hub.parts.clock.now
    sweeping = asyncio.create_task(
        sweep_often(writer, real=lambda: time.time_ns() // 1_000_000, business=lambda: millis(business())), name="housekeeping"
    )
    try:
        yield hub
    finally:
        sweeping.cancel()
        keys.cancel()
        await hub.runner.stop()
        await hub.follower.stop()
        stop.set()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.wait_for(sealing, 10)
        await writer.stop()
        await http.aclose()
        await key_http.aclose()
        await database.close()


def _assemble(
    settings: Settings,
    in_force: InForce,
    keys: SigningKeys,
    provider: KeyProvider,
    database: Any,
    writer: Writer,
    keyring: Keyring,
    http: httpx.AsyncClient,
    key_http: httpx.AsyncClient,
    audit: StoredAudit,
    limits: Limits,
) -> Hub:
    clock = _clock(settings)
    shelves = Shelves(database, keyring, clock)
    urls = OAuthUrls.under(settings.base_url)
    fhir_base = f"{settings.base_url}/fhir"
    runner: EmbeddedRunner | None = None

    def policy() -> Policy:
        return in_force.now.policy

    def wake(ids: Sequence[str]) -> None:
        if runner is not None:
            runner.wake(ids)

    def in_directory(caller: Caller, type_: str, id_: str) -> bool:
        return in_force.now.directory.knows(caller.party, type_, id_, millis(clock.now()))

    def known_clients() -> Mapping[ClientId, Client]:
        freshness.require()
        return policy().clients

    parts = Parts(
        policy=policy,
        plan=lambda: in_force.now.plan,
        database=database,
        writer=writer,
        shelves=shelves,
        keyring=keyring,
        facts=Facts(database, keyring),
        release=ReleaseStep(shelves, keyring, policy),
        clock=clock,
        new_id=lambda: secrets.token_hex(16),
        in_directory=in_directory,
        wake=wake,
    )
    freshness = Freshness(time.monotonic)
    revocations = FollowedRevocations(StoredRevocations(writer), freshness, time.time)
    tallies = TallyBook(writer, time.time)
    tokens = AccessTokens(
        keys,
        issuer=urls.issuer,
        audience=fhir_base,
        policy=policy,
        revocations=revocations,
        now=time.time,
        new_id=lambda: secrets.token_hex(16),
    )
    replay = StoredReplay(writer)
    verifier = AssertionVerifier(
        clients=known_clients,
        keys=PartnerKeys(JwksFetcher(key_http, sandbox=settings.sandbox, now=time.monotonic, limits=FetchLimits())),
        replay=replay,
        audiences=(urls.token, urls.issuer),
        rules=AssertionRules(),
        counts=tallies,
        now=time.time,
    )
    authentication = ClientAuthentication(verifier, _token_refused)
    proofs = ProofVerifier(replay, time.time)
    service = TokenService(authentication, tokens, proofs, fhir_base=fhir_base)
    control = TokenControl(
        authentication,
        tokens,
        revocations,
        issuer=urls.issuer,
        audience=fhir_base,
        introspection_url=urls.introspection,
        revocation_url=urls.revocation,
        revoked=_token_revoked,
    )
    certificates = ClientCertificates(
        TrustedProxies(settings.trusted_proxies or ()), settings.certificate_header, from_tls=settings.tls_client_ca is not None
    )
    showing = Showing(settings.base_url, certificates)
    edge = Edge(
        callers=Callers(tokens, proofs),
        limits=limits,
        showing=showing,
        device=DeviceRule(lambda: policy().device_refusals),
        gate=lambda: in_force.now.gate,
        directory=lambda: in_force.now.directory,
        referrals=Referrals(parts),
        parts=parts,
    )
    outbound = Outbound(http, statement=hub_statement(keys, urls.issuer, time.time), now=time.time)
    text_endpoint = Endpoint("text", ShelfId("text"), Transport.NUDGE, settings.text_service_url or "")
    texts = Texts(parts, HttpTransport(http, text_endpoint, outbound) if settings.text_service_url else None)

    def adapter_for(endpoint: Endpoint) -> OutboundAdapter:
        mine = in_force.now.adapters.get(shelf_party(endpoint.shelf))
        return mine if mine is not None else BUILT_IN[endpoint.transport]

    sender = Sender(
        parts, adapter_for, lambda endpoint: HttpTransport(http, endpoint, outbound), texts, lease_ms=int(settings.lease_seconds * 1000)
    )
    runner = EmbeddedRunner(sender, Timers(parts).fire_due, sweep=settings.sweep_seconds)
    statement = capability_statement(
        {**TABLE, "Patient": replace(TABLE["Patient"], operations=OF_PATIENT)},
        url=fhir_base,
        software_version=__version__,
        date=STATEMENT_DATE,
        oauth=OauthUris(token=urls.token),
        system=(SystemInteraction.TRANSACTION,),
        operations=OF_SYSTEM,
    )
    routes = [
        *health_routes(),
        *oauth_routes(
            *(service, control, showing, keys, urls),
            scopes=lambda: in_force.now.scopes,
            smart_paths=("", "/fhir"),
            document_age=JWKS_AGE,
            certificates=certificates.possible,
        ),
        *account_routes(edge, fhir_base),
        *fhir_routes(edge, orjson.dumps(statement), fhir_base, even=settings.even_answer_seconds),
        *nowhere_routes(),
    ]
    follower = Follower(
        worker=secrets.token_hex(8),
        in_force=in_force,
        read_files=lambda: Files.read(settings),
        database=database,
        writer=writer,
        revocations=revocations,
        freshness=freshness,
        tallies=tallies,
        keys=keys,
        provider=provider,
        real=time.time,
    )
    writer.overtaken = follower.catch_up
    return Hub(parts, edge, runner, audit, tokens, follower, routes)


def _limits(settings: Settings) -> Limits:
    rates = Rates(settings.rate_source, settings.rate_client, settings.rate_tokens, settings.rate_failures)
    return Limits(rates, Sources(TrustedProxies(settings.trusted_proxies or ())), time.monotonic)


def _clock(settings: Settings) -> Clock:
    if settings.sandbox_clock is None:
        return SystemClock()
    from gateway.testing.clock import RunnerClock  # the scenario runner's clock, in the sandbox only

    return RunnerClock(settings.sandbox_clock)


def _token_refused(fault: Any, client_id: str | None) -> None:
    log.info("assertion-refused", fault=str(fault), known_client=client_id is not None)


def _token_revoked(client_id: str, token_id: str) -> None:
    log.info("token-revoked", client=client_id, token_id=token_id)


async def _sequence(store: StoredAudit, signer: Signer, stop: asyncio.Event) -> None:
    """Keep the audit log sealed. Damage stops sealing and is shouted; anything else starts again from what is stored."""
    while True:
        try:
            await sequence(store, signer, stop=stop)
            return
        except LogDamaged as damage:
            log.critical("audit-log-damaged", where=str(damage))
            return
        except SequencerConflict:
            log.info("sequencer-restarts")
        except Exception as error:  # the supervisor's edge: whatever the store's trouble was, sealing goes on
            log.error("sequencer-restarts", kind=type(error).__name__)
        await asyncio.sleep(0.5)
