"""The proof that a caller owns the token that it presents."""

from __future__ import annotations

from dataclasses import dataclass

from authz.parameters.common import (
    FLAG,
    NUMBER,
    PORT,
    STOLEN_TOKENS,
    TEXT,
    TEXTS,
    UNSAFE,
    choice,
)
from authz.parameters.declaration import param
from authz.parameters.kinds import Object


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientCertificateHeader:
    """A header in which a proxy tells the client's certificate."""

    allow_partial_chain: bool = param(FLAG, default=False)
    ca_certificates: tuple[str, ...] = param(TEXTS)
    cert_cache_ttl: float = param(NUMBER, 60_000)
    certificate_header_format: str = param(choice("base64_encoded", "url_encoded"), "url_encoded")
    certificate_header_name: str | None = param(TEXT)
    http_timeout: float = param(NUMBER, 30_000)
    revocation_check_mode: str = param(
        choice("IGNORE_CA_ERROR", "SKIP", "STRICT"), "IGNORE_CA_ERROR"
    )
    secure_source: bool = param(FLAG, default=True)
    ssl_verify: bool = param(FLAG, default=True)
    http_proxy_host: str | None = param(TEXT)
    http_proxy_port: int | None = param(PORT)
    https_proxy_host: str | None = param(TEXT)
    https_proxy_port: int | None = param(PORT)


@dataclass(frozen=True, slots=True, kw_only=True)
class PossessionParameters:
    """The proof that a caller owns the token that it presents (RFC 9449, RFC 8705)."""

    proof_of_possession_dpop: str = param(
        choice("off", "optional", "strict"),
        "off",
        becomes=STOLEN_TOKENS,
        about="whether tokens must be bound to a key of the caller",
    )
    dpop_use_nonce: bool = param(
        FLAG, default=False, becomes=STOLEN_TOKENS, about="whether a proof must hold our nonce"
    )
    dpop_proof_lifetime: float = param(
        NUMBER, 300, becomes=STOLEN_TOKENS, about="seconds for which a proof is good"
    )
    proof_of_possession_mtls: str = param(
        choice("off", "optional", "strict"),
        "off",
        becomes=STOLEN_TOKENS,
        about="whether tokens must be bound to a certificate of the caller",
    )
    proof_of_possession_mtls_from_header: ClientCertificateHeader | None = param(
        Object(ClientCertificateHeader),
        becomes=STOLEN_TOKENS,
        about="the header in which a proxy tells that certificate",
    )
    proof_of_possession_auth_methods_validation: bool = param(
        FLAG,
        default=True,
        becomes=UNSAFE,
        about="whether only methods that can carry a proof may be named",
    )
