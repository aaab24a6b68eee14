"""TLS to a service: by whom it is verified, and how Envoy says who it is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from envoy_data_plane.envoy.config.core import v3 as core
from envoy_data_plane.envoy.extensions.transport_sockets.tls import v3 as tls
from envoy_data_plane.envoy.type.matcher import v3 as matcher
from envoy_data_plane.google.protobuf import Any as Packed

from authz.envoy.bootstrap.parts import is_ip
from authz.kong.protocols import GRPC, TLS
from authz.model import Diagnostic

if TYPE_CHECKING:
    from collections.abc import Iterator

    from authz.model import Certificate, Gateway, Service


def transport_socket(service: Service, gateway: Gateway, ca_file: str) -> core.TransportSocket:
    """Return TLS to a service, its certificate checked unless ``tls_verify`` is false."""
    authorities = [each.chain or "" for each in _authorities(service, gateway)]
    by_ip = is_ip(service.host)
    kind = tls.SubjectAltNameMatcherSanType
    validation = tls.CertificateValidationContext(
        trusted_ca=core.DataSource(
            inline_string="\n".join(authorities) if authorities else None,
            filename=None if authorities else ca_file,
        ),
        max_verify_depth=service.tls_verify_depth,
        match_typed_subject_alt_names=[
            tls.SubjectAltNameMatcher(
                san_type=kind.IP_ADDRESS if by_ip else kind.DNS,
                matcher=matcher.StringMatcher(exact=service.host),
            )
        ],
    )
    own = _own(service, gateway)
    context = tls.UpstreamTlsContext(
        sni="" if by_ip else service.host,  # RFC 6066 section 3: never an address
        common_tls_context=tls.CommonTlsContext(
            tls_certificates=[] if own is None else [_written(own)],
            alpn_protocols=["h2" if service.protocol in GRPC else "http/1.1"],
            validation_context=None if service.tls_verify is False else validation,
        ),
    )
    return core.TransportSocket(
        name="envoy.transport_sockets.tls", typed_config=Packed.pack(context)
    )


def _authorities(service: Service, gateway: Gateway) -> list[Certificate]:
    return [each for each in gateway.ca_certificates if each.id in service.ca_certificates]


def _own(service: Service, gateway: Gateway) -> Certificate | None:
    named = service.client_certificate
    return next((each for each in gateway.certificates if each.id == named), None)


def _written(certificate: Certificate) -> tls.TlsCertificate:
    key = certificate.key
    return tls.TlsCertificate(
        certificate_chain=core.DataSource(inline_string=certificate.chain),
        private_key=core.DataSource(inline_string=None if key is None else key.reveal()),
    )


def problems(service: Service, gateway: Gateway) -> Iterator[Diagnostic]:
    """Yield what of a service's TLS cannot be written."""
    found = {each.id for each in _authorities(service, gateway) if each.chain is not None}
    for missing in sorted({*service.ca_certificates} - found):
        yield Diagnostic(
            service.position,
            "ca_certificates",
            f"{missing} is not among the file's ca_certificates as PEM: put it there, or leave "
            "ca_certificates out and give Envoy's store (--ca-file)",
        )
    own = _own(service, gateway)
    named = service.client_certificate
    if named is not None and (own is None or own.chain is None or own.key is None):
        yield Diagnostic(
            service.position,
            "client_certificate",
            f"{named} is not among the file's certificates with cert and key as PEM: put it there",
        )


def notices(service: Service, gateway: Gateway, ca_file: str) -> Iterator[Diagnostic]:
    """Yield what the operator should know of a service's TLS."""
    if service.protocol not in TLS:
        return
    if service.tls_verify is None:
        by = "its ca_certificates" if service.ca_certificates else ca_file
        yield Diagnostic(
            service.position,
            "tls_verify",
            f"is not said: Envoy verifies {service.host} by {by}, which Kong does not unless it is "
            "told to; write tls_verify: true, or false to go without",
        )
    if (own := _own(service, gateway)) is not None:
        yield Diagnostic(
            own.position,
            "certificates",
            f"the private key of {own.id} stands in what is printed: keep that as the key itself",
        )
