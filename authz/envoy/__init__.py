"""Envoy's two languages: the ext_authz messages and the bootstrap."""
