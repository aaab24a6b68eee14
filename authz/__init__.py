"""authz: Kong's openid-connect for machine callers, on any Envoy.

A gRPC server for Envoy's ``ext_authz`` filter.  It exchanges a caller's
client credentials for an access token at the identity provider, verifies the
token, maps it to a consumer and answers Envoy with the upstream's headers.
"""

__version__ = "0.1.0"
