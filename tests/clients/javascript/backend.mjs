// A backend client as somebody else would write it: openid-client discovers the hub and gets a token by private_key_jwt, fhir-kit-client
// searches, creates and reads. With "dpop" the token is bound to a key made here (RFC 9449), and every request carries a proof.
//
// Reads one JSON object from standard input: issuer, fhir, client, pem (PKCS #8), alg, kid, scope, dpop.
// Writes one JSON object to standard output: what it saw. Nothing here is changed for this hub but `allowInsecureRequests`: it is on loopback.

import { createPrivateKey } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { generateProof } from 'dpop'
import { Client as FhirClient } from 'fhir-kit-client'
import * as oauth from 'openid-client'

const given = JSON.parse(readFileSync(0, 'utf8'))

const algorithms = {
  ES384: { name: 'ECDSA', namedCurve: 'P-384' },
  RS384: { name: 'RSASSA-PKCS1-v1_5', hash: 'SHA-384' },
}
const der = createPrivateKey(given.pem).export({ type: 'pkcs8', format: 'der' })
const key = await crypto.subtle.importKey('pkcs8', der, algorithms[given.alg], false, ['sign'])

const config = await oauth.discovery(
  new URL(given.issuer),
  given.client,
  undefined,
  oauth.PrivateKeyJwt({ key, kid: given.kid }),
  { algorithm: 'oauth2', execute: [oauth.allowInsecureRequests] },
)

const pair = given.dpop ? await oauth.randomDPoPKeyPair('ES256') : undefined
const DPoP = pair ? oauth.getDPoPHandle(config, pair) : undefined
const tokens = await oauth.clientCredentialsGrant(config, { scope: given.scope, resource: given.fhir }, { DPoP })

const requestSigner = async (url, request) => {
  const address = new URL(url)
  const proof = await generateProof(pair, `${address.origin}${address.pathname}`, request.method, undefined, tokens.access_token)
  request.headers.set('authorization', `DPoP ${tokens.access_token}`)
  request.headers.set('dpop', proof)
}
const fhir = new FhirClient({ baseUrl: given.fhir, requestSigner: pair ? requestSigner : undefined })
if (!pair) fhir.bearerToken = tokens.access_token

const status = async (call) => {
  try {
    await call()
    return 200
  } catch (error) {
    return error.response?.status ?? String(error)
  }
}

const smart = await fhir.smartAuthMetadata()
const statement = await fhir.capabilityStatement()
const tasks = await fhir.search({ resourceType: 'Task', searchParams: { status: 'requested' } })
const made = await fhir.create({
  resourceType: 'Patient',
  body: { resourceType: 'Patient', name: [{ use: 'nickname', given: [given.alias] }] },
})
const read = await fhir.read({ resourceType: 'Patient', id: made.id })
const missing = await status(() => fhir.read({ resourceType: 'Patient', id: '0'.repeat(32) }))

const stranger = new FhirClient({ baseUrl: given.fhir })
const withoutToken = await status(() => stranger.search({ resourceType: 'Task' }))
stranger.bearerToken = tokens.access_token
const asPlainBearer = await status(() => stranger.search({ resourceType: 'Task' }))

console.log(
  JSON.stringify({
    tokenType: tokens.token_type,
    scope: tokens.scope,
    expiresIn: tokens.expires_in,
    tokenEndpoint: String(smart.tokenUrl),
    fhirVersion: statement.fhirVersion,
    found: tasks.resourceType,
    made: made.resourceType,
    same: read.name[0].given[0] === given.alias && read.id === made.id,
    missing,
    withoutToken,
    asPlainBearer,
  }),
)
