"""Who may call: the authorization server of the hub, and its own client side.

A partner's system proves who it is with a signed assertion (`assertions`: RFC 7523, SMART Backend Services), checked against the
keys it registered (`partner_keys`, `jwks`) and used once (`replay`). It gets a short-lived access token (`tokens`: RFC 9068) for
what it asked for and is registered for (`scopes`). Each later call shows that token; `tokens.AccessTokens.verify` turns it into a
`gateway.identity.Caller`, which is all that the rest of the hub ever learns about who asks.

Everything here fails closed: what is not understood is refused, and a refusal never says which check failed.
"""
