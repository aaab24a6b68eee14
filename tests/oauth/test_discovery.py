"""Where a provider's document is, and what of it may be used."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from support.client import door
from support.idp import RunningIdp
from support.scenes import at, says
from support.scripted import answer as sends
from support.scripted import read_request
from support.tls import ca_file, server_context

from authz.errors import Unavailable
from authz.oauth.discovery import ProviderMetadata, discover, discovery_url, issuer_url
from authz.oauth.endpoints import INTROSPECTION, JWKS, TOKEN

if TYPE_CHECKING:
    from pathlib import Path

    from support.running import MakeAuthz
    from support.scripted import Serve


OIDC = "/.well-known/openid-configuration"
OAUTH = "/.well-known/oauth-authorization-server"
BOM = b"\xef\xbb\xbf"


# --- B1: a URL is taken apart once -------------------------------------------------------


@pytest.mark.parametrize(
    ("issuer", "document", "name"),
    [
        pytest.param("https://a.test", f"https://a.test{OIDC}", "https://a.test", id="host"),
        pytest.param("https://a.test/", f"https://a.test{OIDC}", "https://a.test/", id="slash"),
        pytest.param(
            "https://a.test/r/", f"https://a.test/r{OIDC}", "https://a.test/r/", id="path, slash"
        ),
        pytest.param(
            f"https://a.test/r{OIDC}", f"https://a.test/r{OIDC}", "https://a.test/r", id="document"
        ),
        pytest.param(
            f"https://a.test/r{OIDC}/", f"https://a.test/r{OIDC}/", "https://a.test/r/", id="both"
        ),
        pytest.param(
            "https://a.test/v2.0?appid=1",
            f"https://a.test/v2.0{OIDC}?appid=1",
            "https://a.test/v2.0",
            id="query",
        ),
        pytest.param(
            f"https://a.test/v2.0{OIDC}?appid=1",
            f"https://a.test/v2.0{OIDC}?appid=1",
            "https://a.test/v2.0",
            id="document, query",
        ),
        pytest.param(
            f"https://a.test{OAUTH}/r",
            f"https://a.test{OAUTH}/r",
            "https://a.test/r",
            id="RFC 8414",
        ),
    ],
)
def test_B1_the_name_of_the_document_goes_to_the_end_of_the_path_and_the_query_stays(
    issuer: str, document: str, name: str
) -> None:
    assert discovery_url(issuer) == document
    assert issuer_url(issuer) == name


async def test_B1_an_issuer_with_a_query_is_asked_with_it(
    idp: RunningIdp, make_authz: MakeAuthz, caplog: pytest.LogCaptureFixture
) -> None:
    authz = make_authz(at(f"{idp.issuer}/?appid=1"))

    await authz.basic()
    [asked] = [one.target for one in idp.requests if one.endpoint == "discovery"]
    assert asked == f"/realms/kong{OIDC}?appid=1"


# --- B2: an address is checked where it is used -------------------------------------------


@pytest.mark.parametrize("endpoint", [JWKS, TOKEN, INTROSPECTION], ids=lambda one: one.name)
def test_B2_http_in_the_document_of_an_https_issuer_is_refused_when_it_is_used(
    endpoint: Any,
) -> None:
    other = {"jwks_uri": "https://a.test/x", endpoint.member: "http://a.test/y"}
    metadata = ProviderMetadata("https://a.test", "https://a.test", other)

    with pytest.raises(Unavailable) as caught:
        metadata.url_of(endpoint)
    assert caught.value.detail.startswith(f'{endpoint.member} "http://a.test/y" is no https URL')
    assert "the provider takes itself to be reached by http" in caught.value.detail


async def test_B2_http_endpoints_that_the_file_overrides_are_never_looked_at(
    make_authz: MakeAuthz, tmp_path: Path
) -> None:
    with RunningIdp(tls=server_context()) as secured:
        secured.metadata = {"token_endpoint": "http://a.test/t", "jwks_uri": "http://a.test/k"}
        authz = make_authz(
            at(
                secured.issuer,
                token_endpoint=secured.token_endpoint,
                jwks_endpoint=secured.jwks_uri,
            ),
            settings={"idp_ca_file": str(ca_file(tmp_path))},
        )

        assert (await authz.basic()).allowed


# --- B3: redirects ------------------------------------------------------------------------


async def redirected(scripted: Serve, location: str) -> str:
    server = scripted([read_request, sends(b"", "301 Moved", f"location: {location}")])
    async with door() as idp:
        with pytest.raises(Unavailable) as caught:
            await discover(idp.door, f"{server.url}/realms/kong")
    assert len(server.connections) == 1
    return caught.value.detail


@pytest.mark.parametrize(
    "location",
    [f"https://127.0.0.1/auth/realms/kong{OIDC}", f"https://127.0.0.1:8443/auth/realms/kong{OIDC}"],
)
async def test_B3_a_redirect_to_https_on_the_same_host_is_named_and_not_followed(
    scripted: Serve, location: str
) -> None:
    told = await redirected(scripted, location)
    assert "HTTP status 301, and redirects are not followed" in told
    assert f'write "{location.removesuffix(OIDC)}" as issuer' in told


@pytest.mark.parametrize(
    "location",
    [
        "https://elsewhere.test/canary",
        "http://127.0.0.1/canary",
        "//canary.test",
        "",
        "https://[canary",
    ],
)
async def test_B3_any_other_redirect_is_not_named(scripted: Serve, location: str) -> None:
    told = await redirected(scripted, location)
    assert told.endswith("HTTP status 301, and redirects are not followed")


# --- Members that are null, and what stands before the document ----------------------------


@pytest.mark.parametrize("nothing", [None, ""], ids=["null", "empty"])
async def test_A10_a_member_that_is_null_or_empty_is_absent(
    idp: RunningIdp, make_authz: MakeAuthz, nothing: object
) -> None:
    idp.metadata |= {
        "introspection_endpoint": nothing,
        "token_endpoint_auth_methods_supported": nothing,
    }
    assert ProviderMetadata("a", "a", {"jwks_uri": nothing}).url_of(JWKS) is None
    assert (await make_authz().basic()).allowed


@pytest.mark.parametrize("value", [{}, [], 7, False], ids=str)
def test_A10_any_other_value_is_one_and_no_url(value: object) -> None:
    with pytest.raises(Unavailable, match="token_endpoint is no string"):
        ProviderMetadata("a", "a", {"token_endpoint": value}).url_of(TOKEN)


async def test_A10_a_byte_order_mark_before_any_document_is_skipped(
    idp: RunningIdp, make_authz: MakeAuthz
) -> None:
    async def body(answer: str) -> bytes:
        async with door() as asked:
            return (await asked.get(answer)).body

    discovery = f"{idp.issuer}{OIDC}"
    idp.discovery_answers.append(says(BOM + await body(discovery)))
    idp.certs_answers.append(says(BOM + await body(idp.jwks_uri)))
    authz = make_authz()

    assert (await authz.bearer(idp.issue())).allowed
    token = says(BOM + f'{{"access_token":"{idp.issue()}","token_type":"Bearer"}}'.encode())
    idp.token_answers.append(token)
    assert (await authz.basic()).allowed
