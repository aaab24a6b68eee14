"""A Redis server, as Kong's plugins name one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from authz.parameters.common import (
    FLAG,
    MILLISECONDS,
    PORT,
    SECRET,
    TEXT,
    TEXTS,
    WHOLE,
    choice,
)
from authz.parameters.declaration import param
from authz.parameters.kinds import Array, MapOf, Object

if TYPE_CHECKING:
    from collections.abc import Mapping

    from authz.secret import Secret


def _any_name(_: str) -> None:
    """Take any name."""


_SECRETS_BY_NAME = MapOf(SECRET, key=_any_name)


@dataclass(frozen=True, slots=True, kw_only=True)
class RedisOauth:
    """The client that asks for a token with which Redis is entered."""

    auth_method: str = param(
        choice("client_secret_post", "client_secret_basic", "client_secret_jwt"),
        "client_secret_post",
    )
    client_id: str | None = param(TEXT, referenceable=True)
    client_secret: Secret | None = param(SECRET, referenceable=True)
    client_secret_jwt_alg: str = param(choice("HS256", "HS512"), "HS512")
    grant_type: str = param(choice("client_credentials", "password"), "client_credentials")
    password: Secret | None = param(SECRET, referenceable=True)
    redis_username: str | None = param(TEXT, referenceable=True)
    redis_username_claim: str | None = param(TEXT)
    scopes: tuple[str, ...] = param(TEXTS, ())
    ssl_verify: bool = param(FLAG, default=True)
    timeout: int = param(MILLISECONDS, 10_000)
    token_endpoint: str | None = param(TEXT)
    token_headers: Mapping[str, Secret] | None = param(_SECRETS_BY_NAME)
    token_post_args: Mapping[str, Secret] | None = param(_SECRETS_BY_NAME)
    username: str | None = param(TEXT, referenceable=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class CloudAuthentication:
    """How a cloud provider's Redis is entered."""

    auth_provider: str | None = param(choice("aws", "azure", "gcp", "oauth"), referenceable=True)
    aws_access_key_id: Secret | None = param(SECRET, referenceable=True)
    aws_assume_role_arn: str | None = param(TEXT, referenceable=True)
    aws_cache_name: str | None = param(TEXT, referenceable=True)
    aws_is_serverless: bool = param(FLAG, default=True)
    aws_region: str | None = param(TEXT, referenceable=True)
    aws_role_session_name: str | None = param(TEXT, referenceable=True)
    aws_secret_access_key: Secret | None = param(SECRET, referenceable=True)
    azure_client_id: Secret | None = param(SECRET, referenceable=True)
    azure_client_secret: Secret | None = param(SECRET, referenceable=True)
    azure_tenant_id: Secret | None = param(SECRET, referenceable=True)
    gcp_service_account_json: Secret | None = param(SECRET, referenceable=True)
    oauth: RedisOauth | None = param(Object(RedisOauth))


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterNode:
    """A node of a Redis cluster."""

    ip: str = param(TEXT, "127.0.0.1")
    port: int = param(PORT, 6379)


@dataclass(frozen=True, slots=True, kw_only=True)
class SentinelNode:
    """A Redis sentinel."""

    host: str = param(TEXT, "127.0.0.1")
    port: int = param(PORT, 6379)


@dataclass(frozen=True, slots=True, kw_only=True)
class Redis:
    """A Redis server.  Timeouts are in milliseconds."""

    cloud_authentication: CloudAuthentication | None = param(Object(CloudAuthentication))
    cluster_max_redirections: int = param(WHOLE, 5)
    cluster_nodes: tuple[ClusterNode, ...] = param(Array(Object(ClusterNode)))
    connect_timeout: int = param(MILLISECONDS, 2000)
    connection_is_proxied: bool = param(FLAG, default=False)
    database: int = param(WHOLE, 0)
    host: str = param(TEXT, "127.0.0.1", referenceable=True)
    keepalive_backlog: int | None = param(WHOLE, also=(0,))
    keepalive_pool_size: int = param(WHOLE, 256)
    password: Secret | None = param(SECRET, referenceable=True)
    port: int = param(PORT, 6379, referenceable=True)
    read_timeout: int = param(MILLISECONDS, 2000)
    send_timeout: int = param(MILLISECONDS, 2000)
    sentinel_master: str | None = param(TEXT)
    sentinel_nodes: tuple[SentinelNode, ...] = param(Array(Object(SentinelNode)))
    sentinel_password: Secret | None = param(SECRET, referenceable=True)
    sentinel_role: str | None = param(choice("any", "master", "slave"))
    sentinel_username: Secret | None = param(SECRET, referenceable=True)
    server_name: str | None = param(TEXT, referenceable=True)
    ssl: bool = param(FLAG, default=False)
    ssl_verify: bool = param(FLAG, default=True, also=(False,))
    username: Secret | None = param(SECRET, referenceable=True)
    # Names of older versions, which write them beside the new ones.
    timeout: int = param(MILLISECONDS, 2000)
    cluster_addresses: tuple[str, ...] = param(TEXTS)
    sentinel_addresses: tuple[str, ...] = param(TEXTS)


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionRedis(Redis):
    """A Redis server for sessions."""

    prefix: str | None = param(TEXT)
    socket: str | None = param(TEXT)
