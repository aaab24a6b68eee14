"""Kong's plugins by name, and what each of them means for who gets in.

A plugin that decides who gets in cannot be read past: the route would stand
open.  One that only limits, changes or logs a request is left to Envoy.
"""

from __future__ import annotations

from enum import Enum

from authz.model import Plugin, Termination

OPENID_CONNECT = Plugin.name
REQUEST_TERMINATION = Termination.name


class PluginRole(Enum):
    """What a plugin's name means for who gets in."""

    OPENID_CONNECT = Plugin.name
    REQUEST_TERMINATION = Termination.name
    """Keeps every caller out, and is done."""
    DECIDES = "decides who gets in"
    """Authenticates, authorises, turns away by address or client, or runs any code."""
    READ_PAST = "does not decide who gets in"
    UNKNOWN = "unknown"
    """No plugin of Kong's: it may be the one that keeps callers out."""


_DECIDES = frozenset(
    {
        # who the caller is
        "ai-mcp-oauth2", "application-registration", "basic-auth", "header-cert-auth",
        "hmac-auth", "jwe-decrypt", "jwt", "jwt-signer", "key-auth", "key-auth-enc",
        "konnect-application-auth", "ldap-auth", "ldap-auth-advanced", "mtls-auth", "oauth2",
        "oauth2-introspection", "saml", "session", "standard-webhooks", "vault-auth",
        # whether the caller may pass
        "ace", "acl", "bot-detection", "entitlement-enforcement", "governance",
        "ip-restriction", "opa",
        "tls-handshake-modifier", "tls-metadata-headers",
        # anything at all
        "post-function", "pre-function", "request-callout",
    }
)  # fmt: skip

_READ_PAST = frozenset(
    {
        # AI
        "ai-a2a-proxy", "ai-aws-guardrails", "ai-azure-content-safety", "ai-custom-guardrail",
        "ai-gcp-model-armor", "ai-lakera-guard", "ai-llm-as-judge", "ai-mcp-proxy",
        "ai-model-selector",
        "ai-prompt-compressor", "ai-prompt-decorator", "ai-prompt-guard", "ai-prompt-template",
        "ai-proxy", "ai-proxy-advanced", "ai-rag-injector", "ai-rate-limiting-advanced",
        "ai-request-transformer", "ai-response-transformer", "ai-sanitizer",
        "ai-semantic-cache", "ai-semantic-prompt-guard", "ai-semantic-response-guard",
        # limits
        "graphql-rate-limiting-advanced", "rate-limiting", "rate-limiting-advanced",
        "request-size-limiting", "response-ratelimiting", "service-protection",
        "websocket-size-limit",
        # the shape of a message
        "injection-protection", "json-threat-protection", "oas-validation",
        "request-validator", "websocket-validator", "xml-threat-protection",
        # changes
        "correlation-id", "cors", "datakit", "degraphql", "exit-transformer",
        "grpc-gateway", "grpc-web", "jq", "proxy-cache", "proxy-cache-advanced",
        "graphql-proxy-cache-advanced", "redirect", "request-transformer",
        "request-transformer-advanced", "response-transformer", "response-transformer-advanced",
        "upstream-oauth", "upstream-timeout",
        # where a request goes
        "aws-lambda", "azure-functions", "canary", "confluent", "confluent-consume",
        "forward-proxy", "kafka-consume", "kafka-upstream", "mocking", "openwhisk",
        "route-by-header", "route-transformer-advanced", "solace-consume", "solace-upstream",
        # what is told about it
        "acme", "app-dynamics", "datadog", "file-log", "header-log", "http-log", "kafka-log",
        "konnect-log", "loggly", "metering-and-billing", "opentelemetry", "prometheus",
        "solace-log", "statsd", "statsd-advanced", "syslog", "tcp-log", "udp-log", "zipkin",
    }
)  # fmt: skip


def role(name: str) -> PluginRole:
    """Return what the plugin ``name`` means for who gets in."""
    if name == OPENID_CONNECT:
        return PluginRole.OPENID_CONNECT
    if name == REQUEST_TERMINATION:
        return PluginRole.REQUEST_TERMINATION
    if name in _DECIDES:
        return PluginRole.DECIDES
    return PluginRole.READ_PAST if name in _READ_PAST else PluginRole.UNKNOWN


def kong_plugin_names() -> frozenset[str]:
    """Return the names of all plugins that Kong ships, for did-you-mean."""
    return _DECIDES | _READ_PAST | {OPENID_CONNECT, REQUEST_TERMINATION}
