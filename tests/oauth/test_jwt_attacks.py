"""Forged, bent and misspelt tokens: none of them lets anybody in."""

from __future__ import annotations

import base64
import hashlib
import hmac
import itertools
import json
import math
from contextlib import ExitStack
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING, Any, Final

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed448, padding, rsa, x25519
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from hypothesis import example, given, settings
from hypothesis import strategies as st
from support.idp import RunningIdp, key
from support.running import KONG_CONSUMER, POSITION, plugin
from support.scenes import says
from support.scripted import answer, read_request
from support.verdicts import ALLOWED, UNASKED, calls, each, verdicts

from authz.demo.idp import ABSENT
from authz.demo.keys import Key
from authz.errors import Unauthenticated, Unavailable
from authz.model import Gateway, Plugin, Route, SourcePosition
from authz.oauth import jwks, jwt
from authz.oauth.issuers import Issuer, Issuers
from authz.oauth.looks import LOOKS_MAX

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from support.clock import Clock
    from support.running import MakeAuthz
    from support.scripted import Serve


MALFORMED: Final = "401 token_malformed"
UNSUPPORTED: Final = "401 token_unsupported"
KEY_UNKNOWN: Final = "401 token_key_unknown"
SIGNATURE_INVALID: Final = "401 token_signature_invalid"

DISCOVERED: Final = {"token": 0, "discovery": 1, "certs": 1}
REDISCOVERY_SECONDS: Final = 30


def base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def sign_text(signer: Key, text: str) -> str:
    """Sign a text that no library would write, with an RS256 key: header, dot, claims."""
    assert isinstance(signer.private, rsa.RSAPrivateKey)
    signature = signer.private.sign(text.encode(), padding.PKCS1v15(), hashes.SHA256())
    return f"{text}.{base64url(signature)}"


def sign_header(idp: RunningIdp, **header: Any) -> str:
    """A token that is good in all but its header; the key signs by its own algorithm."""
    return idp.issue(header=header)


def key_set(*keys: Key) -> jwks.KeySet:
    return jwks.parse({"keys": [key.jwk for key in keys]})


# --- The algorithm --------------------------------------------------------------------

ALGORITHM_NAMES = {
    "none": "none",
    "nOnE": "nOnE",
    "empty": "",
    "missing": ABSENT,
    "null": None,
    "list": ["RS256"],
    "object": {"RS256": 1},
    "number": 5,
    "true": True,
    "lower case": "rs256",
    "space behind": "RS256 ",
    "NUL behind": "RS256\x00",
    "key management": "RSA-OAEP",
    "unregistered": "RS1",
}


async def test_JW_01_only_exact_names_of_asymmetric_algorithms_are_known(
    idp: RunningIdp, make_authz: MakeAuthz
) -> None:
    tokens = {case: sign_header(idp, alg=name) for case, name in ALGORITHM_NAMES.items()}

    assert await verdicts(make_authz(), tokens) == each(tokens, UNSUPPORTED)
    assert calls(idp) == UNASKED


async def test_JW_01_an_unsigned_token_is_refused(idp: RunningIdp, make_authz: MakeAuthz) -> None:
    header, claims, _ = sign_header(idp, alg="none").split(".")
    tokens = {
        "empty signature": f"{header}.{claims}.",
        "no signature": f"{header}.{claims}",
        "some signature": f"{header}.{claims}.c2lnbmF0dXJl",
    }

    assert await verdicts(make_authz(), tokens) == {
        "empty signature": MALFORMED,
        "no signature": MALFORMED,
        "some signature": UNSUPPORTED,
    }
    assert calls(idp) == UNASKED


def public_forms(signer: Key) -> Iterator[tuple[str, bytes]]:
    """What a confused verifier might take for an HMAC secret."""
    encoding, form = serialization.Encoding, serialization.PublicFormat
    public = signer.private.public_key()
    for name, how in (("PEM", encoding.PEM), ("DER", encoding.DER)):
        yield name, public.public_bytes(how, form.SubjectPublicKeyInfo)
    yield "JWK", json.dumps(signer.jwk).encode()
    yield "JWK Set", json.dumps({"keys": [signer.jwk]}).encode()
    yield "modulus", base64.urlsafe_b64decode(signer.jwk["n"] + "==")
    yield "empty", b""
    yield "guess", b"secret"


@pytest.mark.parametrize("algorithm", ["HS256", "HS384", "HS512"])
async def test_JW_02_a_public_key_is_never_an_hmac_secret(
    idp: RunningIdp, make_authz: MakeAuthz, algorithm: str
) -> None:
    signer = idp.keys[0]
    header = {"alg": algorithm, "typ": "JWT", "kid": signer.kid}
    text = idp.sign(header, idp.access_claims("kong_id", "openid")).rpartition(".")[0]
    digest = f"sha{algorithm[2:]}"
    tokens = {
        name: f"{text}.{base64url(hmac.digest(secret, text.encode(), digest))}"
        for name, secret in public_forms(signer)
    }

    assert await verdicts(make_authz(), tokens) == each(tokens, UNSUPPORTED)
    assert calls(idp) == UNASKED


@pytest.mark.parametrize("algorithm", ["PS256", "RS512", "RS384", "PS512"])
async def test_JW_03_a_key_that_names_its_algorithm_verifies_no_other(
    idp: RunningIdp, make_authz: MakeAuthz, algorithm: str
) -> None:
    token = idp.issue(key=replace(idp.keys[0], algorithm=algorithm))

    assert await verdicts(make_authz(), {algorithm: token}) == {algorithm: KEY_UNKNOWN}
    assert calls(idp) == {"token": 0, "discovery": 2, "certs": 2}  # once more for this key


@pytest.mark.parametrize("algorithm", sorted(jwks.ALGORITHMS))
async def test_JW_03_a_token_passes_by_its_keys_own_algorithm(
    idp: RunningIdp, make_authz: MakeAuthz, algorithm: str
) -> None:
    idp.keys = [key(algorithm)]

    assert await verdicts(make_authz(), {algorithm: idp.issue()}) == {algorithm: ALLOWED}


# --- The key id -----------------------------------------------------------------------

STRANGE_KEY_IDS = {
    "path": "../../../../dev/null",
    "file": "/etc/passwd",
    "SQL": "x' UNION SELECT 'k",
    "shell": "|whoami",
    "URL": "http://127.0.0.1:9/",
    "empty": "",
    "NUL": "kid\x00behind",
    "line break": "kid\r\nx-admin: 1",
    "lone surrogate": "kid-\ud800",
    "256 characters": "k" * 256,
}


async def test_JW_04_a_key_id_is_looked_up_and_nothing_else(
    idp: RunningIdp, make_authz: MakeAuthz
) -> None:
    authz = make_authz()
    authz.canaries |= set(STRANGE_KEY_IDS.values())  # none of them is ever logged
    tokens = {case: sign_header(idp, kid=kid) for case, kid in STRANGE_KEY_IDS.items()}

    assert await verdicts(authz, tokens) == each(tokens, KEY_UNKNOWN)
    # The first one fetches the keys; a few of the others may have them looked at again.
    assert calls(idp) == {"token": 0, "discovery": 1 + LOOKS_MAX, "certs": 1 + LOOKS_MAX}


async def test_JW_04_a_key_id_that_is_no_short_string_is_malformed(
    idp: RunningIdp, make_authz: MakeAuthz
) -> None:
    kids: dict[str, Any] = {
        "number": 5,
        "null": None,
        "list": [idp.keys[0].kid],
        "object": {},
        "257 characters": "k" * 257,
        "10 kB": "k" * 10_000,
    }
    tokens = {case: sign_header(idp, kid=kid) for case, kid in kids.items()}

    assert await verdicts(make_authz(), tokens) == each(tokens, MALFORMED)
    assert calls(idp) == UNASKED


async def test_JW_04_a_key_id_is_compared_exactly(idp: RunningIdp, make_authz: MakeAuthz) -> None:
    kid = idp.keys[0].kid
    near = {"case": kid.swapcase(), "space": f"{kid} ", "prefix": kid[:-1], "NUL": f"{kid}\x00"}
    tokens = {case: sign_header(idp, kid=spelling) for case, spelling in near.items()}

    assert await verdicts(make_authz(), tokens) == each(tokens, KEY_UNKNOWN)


async def test_JW_05_without_a_key_id_every_key_is_tried_in_the_sets_order(
    idp: RunningIdp, make_authz: MakeAuthz
) -> None:
    token = sign_header(idp, kid=ABSENT)
    for count in range(1, 5):
        idp.keys = [*(key(number=n) for n in range(1, count)), key()]
        assert await verdicts(make_authz(), {"last": token}) == {"last": ALLOWED}


async def test_JW_05_a_key_for_another_algorithm_does_not_confuse(
    idp: RunningIdp, make_authz: MakeAuthz
) -> None:
    idp.keys = [key("RS256"), key("ES256"), key("EdDSA"), key("RSA-OAEP")]
    tokens = {k.algorithm: idp.issue(key=k, header={"kid": ABSENT}) for k in idp.keys[:3]}

    assert await verdicts(make_authz(), tokens) == each(tokens, ALLOWED)


# --- Other parameters of the header ---------------------------------------------------


def embedded(signer: Key, url: str) -> dict[str, Any]:
    """Every way in which a header may say by which key to verify it."""
    der = signer.private.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return {
        "jku": f"{url}/jwks.json",
        "x5u": f"{url}/chain.pem",
        "jwk": signer.jwk,
        "x5c": [base64.b64encode(der).decode()],
        "x5t": base64url(hashlib.sha1(der, usedforsecurity=False).digest()),
        "x5t#S256": base64url(hashlib.sha256(der).digest()),
    }


async def test_JW_06_a_key_that_the_token_brings_is_not_used(
    idp: RunningIdp, make_authz: MakeAuthz, scripted: Serve
) -> None:
    attacker = Key.generate()
    body = json.dumps({"keys": [attacker.jwk]}).encode()
    server = scripted([read_request, answer(body)])
    names = embedded(attacker, server.url)
    ours = {
        n: idp.issue(key=attacker, header={n: v, "kid": idp.keys[0].kid}) for n, v in names.items()
    }
    theirs = {n: idp.issue(key=attacker, header={n: v}) for n, v in names.items()}
    authz = make_authz()

    assert await verdicts(authz, ours) == each(names, SIGNATURE_INVALID)
    assert calls(idp) == DISCOVERED
    assert await verdicts(authz, theirs) == each(names, KEY_UNKNOWN)
    assert server.connections == []


async def test_JW_07_a_good_token_may_say_where_its_key_is_published(
    idp: RunningIdp, make_authz: MakeAuthz, scripted: Serve
) -> None:
    server = scripted([read_request, answer(b"{}")])
    names = embedded(key(number=1), server.url)
    tokens = {name: sign_header(idp, **{name: value}) for name, value in names.items()}
    tokens["nonsense"] = sign_header(idp, jku=5, x5c="x", jwk=[], x5t=None)

    assert await verdicts(make_authz(), tokens) == each(tokens, ALLOWED)
    assert server.connections == []


EXTENSIONS: Final[Mapping[str, Mapping[str, Any]]] = {
    "JW-08 crit exp": {"crit": ["exp"]},
    "JW-08 crit empty": {"crit": []},
    "JW-08 crit string": {"crit": "b64"},
    "JW-08 crit null": {"crit": None},
    "JW-08 crit twice": {"crit": ["b64", "b64"], "b64": True},
    "JW-08 b64 true": {"crit": ["b64"], "b64": True},
    "JW-09 b64 false": {"b64": False},
    "JW-09 b64 false, critical": {"crit": ["b64"], "b64": False},
    "JW-10 nested": {"cty": "JWT"},
    "JW-10 nested, media type": {"cty": "application/jwt"},
}
WITHOUT_MEANING: Final[Mapping[str, Mapping[str, Any]]] = {
    "JW-11 zip": {"zip": "DEF"},
    "JW-11 cty": {"cty": "json"},
    "JW-11 cty null": {"cty": None},
    "JW-11 cty a number": {"cty": 7},
    "typ JOSE": {"typ": "JOSE"},
    "of tomorrow": {"x-tomorrow": True},
}


async def test_A12_JW_11_what_has_no_meaning_in_a_signed_token_is_ignored(
    idp: RunningIdp, make_authz: MakeAuthz
) -> None:
    tokens = {case: sign_header(idp, **header) for case, header in WITHOUT_MEANING.items()}

    assert await verdicts(make_authz(), tokens) == each(tokens, ALLOWED)


async def test_JW_08_JW_09_JW_10_what_changes_the_meaning_is_refused(
    idp: RunningIdp, make_authz: MakeAuthz
) -> None:
    tokens = {case: sign_header(idp, **header) for case, header in EXTENSIONS.items()}

    assert await verdicts(make_authz(), tokens) == each(tokens, UNSUPPORTED)
    assert calls(idp) == UNASKED


async def test_JW_09_a_raw_or_detached_payload_is_refused(
    idp: RunningIdp, make_authz: MakeAuthz
) -> None:
    header, claims, signature = sign_header(idp, b64=False, crit=["b64"]).split(".")
    tokens = {
        "raw": sign_text(idp.keys[0], f'{header}.{{"client_id":"kong_id"}}'),
        "detached": f"{header}..{signature}",
        "detached, two parts": f"{header}.{signature}",
        "claims alone": f".{claims}.{signature}",
    }

    assert await verdicts(make_authz(), tokens) == each(tokens, MALFORMED)
    assert calls(idp) == UNASKED


def encrypted(**header: Any) -> str:
    """A JWE (RFC 7516): five parts, of which the first decides how costly the rest is."""
    head = base64url(json.dumps({"enc": "A256GCM", **header}).encode())
    return ".".join(
        (head, base64url(b"k" * 32), base64url(b"i" * 12), base64url(b"c" * 99), "dGFn")
    )


async def test_JW_10_an_encrypted_token_is_not_even_opened(
    idp: RunningIdp, make_authz: MakeAuthz
) -> None:
    tokens = {
        "dir": encrypted(alg="dir"),
        "RSA-OAEP": encrypted(alg="RSA-OAEP", kid=idp.keys[1].kid),
        "PBES2 with two billion rounds": encrypted(
            alg="PBES2-HS256+A128KW", p2c=2**31 - 1, p2s="c2FsdA"
        ),
        "zip bomb": encrypted(alg="dir", zip="DEF"),
        "no JSON at all": "not.even.base64.at.all",
    }

    assert await verdicts(make_authz(), tokens) == each(tokens, MALFORMED)
    assert calls(idp) == UNASKED


# --- Names that stand twice -----------------------------------------------------------

TWICE_IN_HEADER = {
    "alg none first": '"alg": "none", "alg": "RS256"',
    "alg none last": '"alg": "RS256", "alg": "none"',
    "alg escaped": '"alg": "RS256", "\\u0061lg": "none"',
    "kid": '"alg": "RS256", "kid": "other"',
    "jwk within": '"alg": "RS256", "jwk": {"kty": "RSA", "kty": "oct"}',
}
TWICE_IN_CLAIMS = {
    "exp": '"exp": 1',
    "aud": '"aud": "evil"',
    "iss": '"iss": "http://evil.example/realms/kong"',
    "client_id": '"client_id": "bob"',
    "client_id escaped": '"client\\u005fid": "bob"',
    "equal values": '"typ": "Bearer"',
}


async def test_JW_12_a_header_with_a_name_twice_is_refused(
    idp: RunningIdp, make_authz: MakeAuthz
) -> None:
    claims = idp.access_claims("kong_id", "openid")
    kid = f'"kid": "{idp.keys[0].kid}"'
    tokens = {
        case: idp.sign(f"{{{kid}, {members}}}".encode(), claims)
        for case, members in TWICE_IN_HEADER.items()
    }

    assert await verdicts(make_authz(), tokens) == each(tokens, MALFORMED)
    assert calls(idp) == UNASKED


@pytest.mark.parametrize("bad_first", [True, False], ids=["bad one first", "bad one last"])
async def test_JW_13_claims_with_a_name_twice_are_refused(
    idp: RunningIdp, make_authz: MakeAuthz, bad_first: bool
) -> None:
    good = json.dumps(idp.access_claims("kong_id", "openid"))[1:-1]
    tokens = {
        case: idp.sign({}, f"{{{f'{bad}, {good}' if bad_first else f'{good}, {bad}'}}}".encode())
        for case, bad in TWICE_IN_CLAIMS.items()
    }

    assert await verdicts(make_authz(), tokens) == each(tokens, MALFORMED)
    assert calls(idp) == UNASKED


# --- What a token says it is ----------------------------------------------------------

ACCESS_TOKEN_TYPES = (
    "JWT",
    "jwt",
    "at+jwt",
    "AT+JWT",
    "application/at+jwt",
    "Application/JWT",
    "JOSE",
)
OTHER_TYPES: Final[Mapping[str, Any]] = {
    "logout": "logout+jwt",
    "DPoP proof": "dpop+jwt",
    "security event": "secevent+jwt",
    "ID": "ID",
    "empty": "",
    "space behind": "JWT ",
    "prefix alone": "application/",
    "prefix twice": "application/application/jwt",
    "parameter": "at+jwt; charset=utf-8",
    "number": 7,
    "null": None,
    "false": False,
    "list": ["JWT"],
}


async def test_JW_14_an_access_tokens_type_is_accepted_in_any_case(
    idp: RunningIdp, make_authz: MakeAuthz
) -> None:
    tokens = {name: sign_header(idp, typ=name) for name in ACCESS_TOKEN_TYPES}
    tokens["absent"] = sign_header(idp, typ=ABSENT)

    assert await verdicts(make_authz(), tokens) == each(tokens, ALLOWED)


async def test_JW_14_any_other_type_is_refused(idp: RunningIdp, make_authz: MakeAuthz) -> None:
    tokens = {case: sign_header(idp, typ=name) for case, name in OTHER_TYPES.items()}

    assert await verdicts(make_authz(), tokens) == each(tokens, UNSUPPORTED)
    assert calls(idp) == UNASKED


async def test_JW_14_keycloaks_own_claim_typ_must_not_name_another_token(
    idp: RunningIdp, make_authz: MakeAuthz
) -> None:
    tokens = {typ: idp.issue(typ=typ) for typ in ("ID", "Refresh", "Offline", "Logout")}
    tokens["a security event"] = idp.issue(events={"http://schemas.openid.net/event/x": {}})
    misfits = {repr(typ): idp.issue(typ=typ) for typ in (7, ["ID"], {"ID": 1})}
    authz = make_authz()

    assert await verdicts(authz, tokens) == each(tokens, UNSUPPORTED)
    assert await verdicts(authz, misfits) == each(misfits, "401 token_claim_invalid")
    assert await verdicts(authz, {"absent": idp.issue(typ=ABSENT)}) == {"absent": ALLOWED}


async def test_JW_15_an_id_token_of_the_same_client_and_key_is_no_access_token(
    idp: RunningIdp, make_authz: MakeAuthz
) -> None:
    id_token = idp.sign({}, idp._claims("kong_id") | {"aud": "api"})

    authz = make_authz(audience=("api",))
    assert await verdicts(authz, {"access": idp.issue(aud="api")}) == {"access": ALLOWED}
    assert await verdicts(authz, {"ID": id_token}) == {"ID": UNSUPPORTED}


# --- Spelling -------------------------------------------------------------------------


def misspelt(token: str) -> dict[str, str]:
    """Texts that are not the one spelling of a token."""
    header, claims, signature = token.split(".")
    return {
        "no dot": header,
        "one dot": f"{header}.{claims}",
        "three dots": f"{token}.",
        "four dots": f"{token}.x.y",
        "empty part": f"{header}..{signature}",
        "leading dot": f".{token}",
        "dot in front of two": f".{header}.{claims}",
        "dots alone": "..",
        "trailing line break": f"{token}\n",
        "space inside": f"{header}. {claims}.{signature}",
        "line break inside": f"{header}.{claims[:9]}\n{claims[9:]}.{signature}",
        "one padding": f"{token}=",
        "two paddings": f"{token}==",
        "padded header": f"{header}=.{claims}.{signature}",
        "plus": f"{header}.{claims}.+{signature[1:]}",
        "slash": f"{header}.{claims}./{signature[1:]}",
        "impossible length": f"{header}.{claims}.A",
        "letter like an ASCII one": f"{header}.{claims}.\uff21{signature[1:]}",
        "digit like an ASCII one": f"{header}.{claims}.\u0661{signature[1:]}",
        "NUL behind": f"{token}\x00",
        "brace in front": f"{{{token}",
    }


async def test_JW_16_JW_17_a_token_has_one_spelling(idp: RunningIdp, make_authz: MakeAuthz) -> None:
    tokens = misspelt(idp.issue())

    assert await verdicts(make_authz(), tokens) == each(tokens, MALFORMED)
    assert calls(idp) == UNASKED


@pytest.mark.parametrize("case", misspelt("e30.e30.e30"))
def test_JW_16_JW_17_the_parser_alone_knows_the_spelling(case: str) -> None:
    token = key().sign({"alg": "RS256"}, {})
    assert jwt.parse(token).algorithm == "RS256"

    with pytest.raises(Unauthenticated, match="token_malformed"):
        jwt.parse(misspelt(token)[case])


def as_json(token: str) -> dict[str, str]:
    """The two JSON serialisations of RFC 7515 section 7.2."""
    header, claims, signature = token.split(".")
    signed_by = {"protected": header, "signature": signature}
    return {
        "flattened": json.dumps({"payload": claims, **signed_by}),
        "general": json.dumps({"payload": claims, "signatures": [signed_by]}),
    }


async def test_JW_18_a_token_in_json_is_refused(idp: RunningIdp, make_authz: MakeAuthz) -> None:
    authz = make_authz()
    tokens = as_json(idp.issue())

    # In Authorization a comma means that there were two headers.
    assert await verdicts(authz, tokens) == each(tokens, "400 credential_ambiguous")
    for token in tokens.values():
        found = await authz.ask({"access-token": token})
        assert (found.status, found.reason) == (401, "token_malformed")
        with pytest.raises(Unauthenticated, match="token_malformed"):
            jwt.parse(token)
    assert calls(idp) == UNASKED


async def test_JW_16_what_is_too_long_is_not_read(idp: RunningIdp, make_authz: MakeAuthz) -> None:
    tokens = {
        "a million dots": "." * 1_000_000,
        "7 MB": "e30." + "A" * 7_000_000 + ".e30",
        "open brackets": base64url(b"[" * 50_000),
    }

    assert await verdicts(make_authz(), tokens) == each(tokens, "401 credential_malformed")
    for token in tokens.values():
        with pytest.raises(Unauthenticated, match="token_malformed"):
            jwt.parse(token)
    assert calls(idp) == UNASKED


def loosely_spelt(segment: str) -> str:
    """Another text that a lenient decoder takes for the same bytes."""
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    assert len(segment) % 4 in {2, 3}, "no loose bits at the end"
    return segment[:-1] + alphabet[alphabet.index(segment[-1]) + 1]


def test_JW_17_loose_bits_are_refused_even_where_they_are_signed() -> None:
    signer = key()
    # Lengths that leave loose bits at the end of each part.
    header = base64url(b'{"alg":"RS256"}' + b" ")
    claims = base64url(b'{"exp":1}' + b" ")
    good = sign_text(signer, f"{header}.{claims}")
    text, _, signature = good.rpartition(".")
    token = jwt.parse(good)
    assert token.claims == {"exp": 1}
    assert token.verify(key_set(signer).keys) in key_set(signer).keys

    for bad in (
        sign_text(signer, f"{loosely_spelt(header)}.{claims}"),
        sign_text(signer, f"{header}.{loosely_spelt(claims)}"),
        f"{text}.{loosely_spelt(signature)}",
    ):
        with pytest.raises(Unauthenticated, match="not canonical base64url"):
            jwt.parse(bad)


# --- JSON -----------------------------------------------------------------------------


def misread(good: bytes) -> dict[str, bytes]:
    """Bytes that one reader may take for the good object, and another not."""
    members = good[1:-1]
    return {
        "Latin-1": b'{"x": "\xe9", ' + members + b"}",
        "BOM": b"\xef\xbb\xbf" + good,
        "UTF-16": good.decode().encode("utf-16"),
        "UTF-16-LE": good.decode().encode("utf-16-le"),
        "NaN": b'{"x": NaN, ' + members + b"}",
        "Infinity": b'{"x": -Infinity, ' + members + b"}",
        "number out of range": b'{"x": 1e400, ' + members + b"}",
        "integer of 5000 digits": b'{"x": ' + b"1" * 5000 + b", " + members + b"}",
        "bytes behind": good + b"x",
        "two objects": good + good,
        "NUL behind": good + b"\x00",
        "array": b"[" + good + b"]",
        "string": json.dumps(good.decode()).encode(),
        "null": b"null",
        "number": b"1",
        "nothing but a space": b" ",
        "no quotes": b"{x: 1, " + members + b"}",
        "trailing comma": b"{" + members + b",}",
        "comment": b"{/**/" + members + b"}",
        "nested too deep": b'{"x": ' + b"[" * 16 + b"]" * 16 + b", " + members + b"}",
        "nested without end": b"[" * 3000,
    }


@pytest.mark.parametrize("part", ["header", "claims"])
async def test_JW_19_a_part_that_is_no_strict_json_object_is_refused(
    idp: RunningIdp, make_authz: MakeAuthz, part: str
) -> None:
    header = {"alg": "RS256", "typ": "JWT", "kid": idp.keys[0].kid}
    claims = idp.access_claims("kong_id", "openid")
    if part == "header":
        bad = misread(json.dumps(header).encode())
        tokens = {case: idp.sign(text, claims) for case, text in bad.items()}
    else:
        bad = misread(json.dumps(claims).encode())
        tokens = {case: idp.sign(header, text) for case, text in bad.items()}

    assert await verdicts(make_authz(), tokens) == each(bad, MALFORMED)
    assert calls(idp) == UNASKED


def test_JW_19_a_hundred_thousand_levels_are_not_walked_into() -> None:
    token = key().sign({"alg": "RS256"}, b"[" * 100_000)
    with pytest.raises(Unauthenticated, match="too long"):
        jwt.parse(token)


def test_JW_19_escaped_quotes_do_not_make_the_reader_start_over() -> None:
    payload = b"[]" * 20 + b'"' + b'\\"' * 6_000
    with pytest.raises(Unauthenticated, match="token_malformed"):
        jwt.parse(key().sign({"alg": "RS256"}, payload))


# --- Elliptic curves ------------------------------------------------------------------

P256_ORDER: Final = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
P256_FIELD: Final = 0xFFFFFFFF00000001000000000000000000000000FFFFFFFFFFFFFFFFFFFFFFFF


def concatenated(r: int, s: int, size: int = 32) -> bytes:
    """The form of RFC 7518 section 3.4: two numbers of a fixed width."""
    return r.to_bytes(size, "big") + s.to_bytes(size, "big")


def odd_signatures(r: int, s: int, der: bytes) -> dict[str, bytes]:
    """Around a good signature ``(r, s)``: what careless verifiers have accepted."""
    good, n = concatenated(r, s), P256_ORDER
    numbers = {
        "r = s = 0": (0, 0),
        "r = 0": (0, s),
        "s = 0": (r, 0),
        "r = 0, s = 1": (0, 1),
        "r = 1, s = 0": (1, 0),
        "r = s = 1": (1, 1),
        "r = s = n": (n, n),
        "r = n": (n, s),
        "s = n": (r, n),
        "r = n - 1": (n - 1, s),
        "r = n, s = 0": (n, 0),
        "r = 0, s = n": (0, n),
        "r = field order": (P256_FIELD, s),
        "s = field order": (r, P256_FIELD),
        "all ones": (2**256 - 1, 2**256 - 1),
        "swapped": (s, r),
    }
    return {name: concatenated(*pair) for name, pair in numbers.items()} | {
        "DER": der,
        "63 bytes": good[:-1],
        "65 bytes": good + b"\x00",
        "zero in front": b"\x00" + good,
        "96 bytes": concatenated(r, s, 48),
        "32 bytes": good[:32],
        "128 bytes": good + good,
        "one byte": b"\x01",
    }


def es256_parts(idp: RunningIdp) -> tuple[str, int, int, bytes]:
    """A fresh ES256 token: the signed text, and its signature as numbers and in DER."""
    text = idp.issue().rpartition(".")[0]
    private = idp.keys[0].private
    assert isinstance(private, ec.EllipticCurvePrivateKey)
    der = private.sign(text.encode(), ec.ECDSA(hashes.SHA256()))
    return text, *decode_dss_signature(der), der


async def test_JW_20_an_odd_ecdsa_signature_is_refused(
    idp: RunningIdp, make_authz: MakeAuthz
) -> None:
    idp.keys = [key("ES256")]
    text, r, s, der = es256_parts(idp)
    tokens = {
        case: f"{text}.{base64url(signature)}"
        for case, signature in odd_signatures(r, s, der).items()
    }
    authz = make_authz()

    assert await verdicts(authz, tokens) == each(tokens, SIGNATURE_INVALID)
    good = {"itself": f"{text}.{base64url(concatenated(r, s))}"}
    assert await verdicts(authz, good) == {"itself": ALLOWED}


async def test_JW_20_both_values_of_s_are_one_signature(
    idp: RunningIdp, make_authz: MakeAuthz
) -> None:
    # RFC 7518 does not ask for the smaller one, and signers do not give it.
    idp.keys = [key("ES256")]
    text, r, s, _ = es256_parts(idp)
    tokens = {
        "s": f"{text}.{base64url(concatenated(r, s))}",
        "n - s": f"{text}.{base64url(concatenated(r, P256_ORDER - s))}",
    }

    assert await verdicts(make_authz(), tokens) == each(tokens, ALLOWED)


async def test_JW_20_an_algorithm_belongs_to_one_curve(
    idp: RunningIdp, make_authz: MakeAuthz
) -> None:
    p256, p384 = key("ES256"), key("ES384")
    idp.keys = [p256, p384]
    tokens = {
        "ES384 by P-256": idp.issue(key=p256, header={"alg": "ES384"}),
        "ES256 by P-384": idp.issue(key=p384, header={"alg": "ES256"}),
        "ES512 by P-256": idp.issue(key=p256, header={"alg": "ES512"}),
        "RS256 by P-256": idp.issue(key=p256, header={"alg": "RS256"}),
        "EdDSA by P-256": idp.issue(key=p256, header={"alg": "EdDSA"}),
    }
    authz = make_authz()

    assert await verdicts(authz, tokens) == each(tokens, KEY_UNKNOWN)
    koblitz = {"ES256K": idp.issue(key=p256, header={"alg": "ES256K"})}
    assert await verdicts(authz, koblitz) == {"ES256K": UNSUPPORTED}


@pytest.mark.parametrize(
    "members",
    [
        pytest.param({"alg": "ES256", "crv": "P-384"}, id="JW-20 P-384 that says ES256"),
        pytest.param({"alg": "ES384"}, id="JW-20 P-256 that says ES384"),
        pytest.param({"crv": "secp256k1", "alg": ABSENT}, id="JW-20 secp256k1"),
        pytest.param({"crv": "P-256 "}, id="JW-20 curve with a space"),
        pytest.param({"crv": ABSENT}, id="JW-20 no curve"),
        pytest.param({"x": base64url(bytes(32)), "y": base64url(bytes(32))}, id="JW-20 origin"),
        pytest.param({"y": base64url(b"\x01" * 32)}, id="JW-20 point off the curve"),
    ],
)
def test_JW_20_a_key_that_contradicts_its_curve_is_no_key(members: dict[str, Any]) -> None:
    assert unusable(key("ES256").jwk | members)


def unusable(jwk: Mapping[str, Any]) -> bool:
    """Whether a set of this one key alone has no key."""
    try:
        jwks.parse({"keys": [{k: v for k, v in jwk.items() if v is not ABSENT}]})
    except Unavailable:
        return True
    return False


def okp(curve: str, public: bytes, **members: str) -> dict[str, str]:
    return {"kty": "OKP", "kid": "k", "crv": curve, "x": base64url(public), **members}


@pytest.mark.parametrize(
    "jwk",
    [
        pytest.param(
            okp("Ed448", ed448.Ed448PrivateKey.generate().public_key().public_bytes_raw()),
            id="Ed448",
        ),
        pytest.param(
            okp("X25519", x25519.X25519PrivateKey.generate().public_key().public_bytes_raw()),
            id="X25519",
        ),
        pytest.param(okp("Ed25519", bytes(31)), id="Ed25519 of 31 bytes"),
        pytest.param(okp("Ed25519", bytes(32), alg="Ed448"), id="alg Ed448"),
        pytest.param(okp("Ed25519", bytes(32), alg="ES256"), id="alg of another family"),
    ],
)
def test_JW_21_of_the_octet_key_pairs_only_ed25519_with_eddsa_is_known(
    jwk: dict[str, str],
) -> None:
    assert unusable(jwk)


async def test_JW_21_other_names_of_edwards_algorithms_are_refused(
    idp: RunningIdp, make_authz: MakeAuthz
) -> None:
    idp.keys = [key("EdDSA")]
    tokens = {name: sign_header(idp, alg=name) for name in ("Ed448", "eddsa", "EdDSA ", "ed25519")}

    assert await verdicts(make_authz(), tokens) == each(tokens, UNSUPPORTED)


@pytest.mark.parametrize("published", ["EdDSA", "Ed25519", ABSENT])
@pytest.mark.parametrize("used", ["EdDSA", "Ed25519"])
async def test_A11_ed25519_is_a_name_for_eddsa_with_that_curve(
    idp: RunningIdp, make_authz: MakeAuthz, used: str, published: Any
) -> None:
    idp.keys = [key("EdDSA")]
    jwk = {n: v for n, v in (idp.keys[0].jwk | {"alg": published}).items() if v is not ABSENT}
    idp.certs_answers.append(says({"keys": [jwk]}, times=None))

    tokens = {used: sign_header(idp, alg=used)}
    assert await verdicts(make_authz(), tokens) == {used: ALLOWED}


async def test_A11_the_name_fits_no_key_of_another_family(
    idp: RunningIdp, make_authz: MakeAuthz
) -> None:
    tokens = {"by RSA": sign_header(idp, alg="Ed25519")}

    assert await verdicts(make_authz(), tokens) == each(tokens, KEY_UNKNOWN)


# --- Weak and foreign keys ------------------------------------------------------------


def rsa_jwk(n: int, e: int) -> dict[str, str]:
    def number(value: int) -> str:
        return base64url(value.to_bytes((value.bit_length() + 7) // 8, "big"))

    return {"kty": "RSA", "kid": "weak", "alg": "RS256", "n": number(n), "e": number(e)}


GOOD_MODULUS: Final = int.from_bytes(base64.urlsafe_b64decode(key().jwk["n"] + "=="), "big")


@pytest.mark.parametrize(
    "jwk",
    [
        pytest.param(rsa_jwk(GOOD_MODULUS >> 1024 | 1, 65_537), id="1024 bits"),
        pytest.param(rsa_jwk(GOOD_MODULUS >> 1 | 1, 65_537), id="2047 bits"),
        pytest.param(rsa_jwk(2**8192 | 1, 65_537), id="8193 bits"),
        pytest.param(rsa_jwk(2**65_535 | 1, 65_537), id="65536 bits"),
        pytest.param(rsa_jwk(GOOD_MODULUS, 1), id="e = 1"),
        pytest.param(rsa_jwk(GOOD_MODULUS, 3), id="e = 3"),
        pytest.param(rsa_jwk(GOOD_MODULUS, 65_535), id="e = 65535"),
        pytest.param(rsa_jwk(GOOD_MODULUS, 65_538), id="e even"),
        pytest.param(rsa_jwk(GOOD_MODULUS, 2**32 + 1), id="e over 32 bits"),
        pytest.param(rsa_jwk(GOOD_MODULUS, GOOD_MODULUS - 2), id="e as long as n"),
        pytest.param(rsa_jwk(GOOD_MODULUS + 1, 65_537), id="n even"),
        pytest.param(rsa_jwk(0, 65_537), id="n = 0"),
    ],
)
def test_JW_22_a_weak_or_absurd_rsa_key_is_no_key(jwk: dict[str, str]) -> None:
    assert not unusable(rsa_jwk(GOOD_MODULUS, 65_537))
    assert unusable(jwk)


def primorial(count: int) -> int:
    """The product of the first so many primes."""
    primes = (n for n in itertools.count(2) if all(n % d for d in range(2, math.isqrt(n) + 1)))
    return math.prod(itertools.islice(primes, count))


def roca_prime(bits: int, *, primes: int, power: int) -> int:
    """A prime as the faulty generator makes it: k * M + 65537^a mod M."""
    step = primorial(primes)
    remainder = pow(65_537, power, step)
    first = ((3 << (bits - 2)) // step + 1) * step + remainder
    candidates = itertools.count(first, step)
    return next(n for n in candidates if pow(2, n - 1, n) == 1)  # Fermat's test will do


@cache
def roca_modulus(bits: int, primes: int) -> int:
    one, two = (roca_prime(bits // 2, primes=primes, power=power) for power in (1_234, 98_765))
    return one * two


@pytest.mark.parametrize(
    ("bits", "primes"),
    # What the chips' library used for these sizes.
    [pytest.param(2_048, 126, id="2048 bits"), pytest.param(3_072, 126, id="3072 bits")],
)
def test_D_15_a_key_of_a_generator_whose_keys_can_be_factored_is_skipped(
    bits: int, primes: int
) -> None:
    modulus = roca_modulus(bits, primes)
    assert modulus.bit_length() == bits
    found = jwks.parse({"keys": [rsa_jwk(modulus, 65_537), key().jwk]})

    assert found.kids == (key().kid,)
    assert found.skipped == 1


def test_D_15_no_ordinary_key_is_mistaken_for_one() -> None:
    moduli = {
        rsa.generate_private_key(65_537, 1024).public_key().public_numbers().n  # noqa: S505 - many
        for _ in range(200)
    }

    assert not [modulus for modulus in moduli if jwks.has_roca_fingerprint(modulus)]
    assert jwks.has_roca_fingerprint(roca_modulus(1_024, 71))


async def test_D_15_skipped_keys_are_counted(idp: RunningIdp, make_authz: MakeAuthz) -> None:
    keys = {"keys": [*(k.jwk for k in idp.keys), rsa_jwk(roca_modulus(2_048, 126), 65_537)]}
    idp.certs_answers.append(says(keys))
    authz = make_authz()

    assert (await authz.basic()).allowed
    labels = f'issuer="{idp.issuer}",use='
    assert f'authz_jwks_keys{{{labels}"usable"}} 1.0' in authz.metrics()
    assert f'authz_jwks_keys{{{labels}"skipped"}} 2.0' in authz.metrics()  # RSA-OAEP is for no JWS


@pytest.mark.parametrize(
    "members",
    [
        pytest.param({"use": []}, id="use a list"),
        pytest.param({"use": {}}, id="use an object"),
        pytest.param({"key_ops": "verify"}, id="key_ops a string"),
        pytest.param({"key_ops": [[]]}, id="key_ops a list of lists"),
        pytest.param({"kty": []}, id="kty a list"),
        pytest.param({"alg": []}, id="alg a list"),
        pytest.param({"kid": 1}, id="kid a number"),
        pytest.param({"n": 1}, id="n a number"),
        pytest.param({"n": "\u00e9"}, id="n beyond ASCII"),
        pytest.param({"e": None}, id="e null"),
    ],
)
def test_JW_22_a_key_with_a_member_of_the_wrong_type_spoils_no_other(
    members: dict[str, Any],
) -> None:
    odd = {**key().jwk, "kid": "odd", **members}
    found = jwks.parse({"keys": [odd, key(number=1).jwk, None, []]})

    assert found.kids == (key(number=1).kid,)
    assert found.skipped == 3


async def test_JW_22_a_token_by_a_weak_key_has_an_unknown_key(
    idp: RunningIdp, make_authz: MakeAuthz
) -> None:
    small = Key("small", "RS256", rsa.generate_private_key(65_537, 1024))  # noqa: S505 - the case
    idp.keys.append(small)
    tokens = {"1024 bits": idp.issue(key=small), "2048 bits": idp.issue()}

    assert await verdicts(make_authz(), tokens) == {"1024 bits": KEY_UNKNOWN, "2048 bits": ALLOWED}


async def test_JW_23_a_retired_key_vouches_for_nothing_any_more(
    idp: RunningIdp, make_authz: MakeAuthz, clock: Clock
) -> None:
    idp.now = clock.now
    authz = make_authz(clock=clock)
    seen, unseen = idp.issue(), idp.issue()
    assert await verdicts(authz, {"old": seen}) == {"old": ALLOWED}

    idp.rotate(retire=True)
    clock.advance(REDISCOVERY_SECONDS + 1)

    assert await verdicts(authz, {"new": idp.issue()}) == {"new": ALLOWED}
    # One that was let in before the rotation, and one that was not.
    assert await verdicts(authz, {"seen": seen, "unseen": unseen}) == {
        "seen": KEY_UNKNOWN,
        "unseen": KEY_UNKNOWN,
    }
    # One look for the new key, one for each that is gone.
    assert calls(idp) == {"token": 0, "discovery": 4, "certs": 4}


def a_route_each(*plugins: Plugin) -> Gateway:
    """The first plugin answers for ``/0``, the second for ``/1``."""
    routes = [Route(str(i), str(i), POSITION, None, paths=(f"/{i}",)) for i in range(len(plugins))]
    placed = [
        replace(found, position=SourcePosition("kong.yaml", 2 + i, 1), route=routes[i])
        for i, found in enumerate(plugins)
    ]
    return Gateway(routes=tuple(routes), plugins=tuple(placed), consumers=(KONG_CONSUMER,))


async def test_JW_23_a_key_set_belongs_to_one_issuer(
    idp: RunningIdp, make_authz: MakeAuthz
) -> None:
    with ExitStack() as stack:
        other = stack.enter_context(RunningIdp(keys=[key(number=1)]))
        authz = make_authz(a_route_each(plugin(idp.issuer), plugin(other.issuer)))
        ours = {
            "by their key": idp.issue(key=other.keys[0]),
            "by their key, with our kid": idp.issue(
                key=other.keys[0], header={"kid": idp.keys[0].kid}
            ),
            "their token": other.issue(),
            "our issuer in their token": other.issue(iss=idp.issuer),
        }
        # Both key sets are held when the question is asked.
        assert (await authz.bearer(idp.issue(), path="/0")).allowed
        assert (await authz.bearer(other.issue(), path="/1")).allowed

        answers = {case: await authz.bearer(token, path="/0") for case, token in ours.items()}
        assert {case: found.reason for case, found in answers.items()} == {
            "by their key": "token_key_unknown",
            "by their key, with our kid": "token_signature_invalid",
            "their token": "token_issuer_refused",
            "our issuer in their token": "token_key_unknown",
        }
        assert {found.status for found in answers.values()} == {401}


async def test_JW_23_what_one_plugins_keys_verified_says_nothing_to_another(
    idp: RunningIdp, make_authz: MakeAuthz
) -> None:
    with ExitStack() as stack:
        other = stack.enter_context(RunningIdp(keys=[key(number=1)]))
        authz = make_authz(
            a_route_each(plugin(idp.issuer), plugin(idp.issuer, jwks_endpoint=other.jwks_uri))
        )
        token = idp.issue()

        assert (await authz.bearer(token, path="/0")).allowed
        assert (await authz.bearer(token, path="/1")).reason == "token_key_unknown"
        assert (await authz.bearer(token, path="/0")).allowed


async def test_JW_23_another_realm_of_the_same_host_is_another_issuer(
    idp: RunningIdp, make_authz: MakeAuthz
) -> None:
    realm = idp.issuer.replace("/realms/kong", "/realms/other")
    tokens = {"signed by our key": idp.issue(iss=realm)}

    assert await verdicts(make_authz(), tokens) == each(tokens, "401 token_issuer_refused")


# --- Every change of a good token -----------------------------------------------------

NOW: Final = 1_754_944_413.0
RULES: Final = jwt.ClaimRules()
ISSUERS: Final = Issuers([Issuer("https://idp.example", ())])
CLAIMS: Final = {"iss": "https://idp.example", "exp": NOW + 60, "client_id": "kong_id"}
FAMILIES: Final = ("RS256", "PS256", "ES256", "EdDSA")


def signed(algorithm: str) -> str:
    signer = key(algorithm)
    return signer.sign({"alg": algorithm, "typ": "JWT", "kid": signer.kid}, CLAIMS)


def verdict(token: str, keys: jwks.KeySet, rules: jwt.ClaimRules = RULES) -> str:
    """What becomes of a token whose issuer has these keys; any exception but ours escapes."""
    try:
        unverified = jwt.parse(token)
        if ISSUERS.find(unverified.claims.get("iss")) is None:
            raise ISSUERS.refusal(unverified.claims, trusted=False)
        fitting = keys.fitting(unverified.kid, unverified.algorithm)
        if not fitting:
            return "token_key_unknown"
        unverified.verify(fitting)
        rules.check(unverified.claims, NOW)
    except Unauthenticated as refusal:
        return str(refusal.reason)
    return "allowed"


@pytest.mark.parametrize("algorithm", FAMILIES)
def test_JW_24_no_flipped_bit_of_the_text_goes_unnoticed(algorithm: str) -> None:
    token, keys = signed(algorithm), key_set(key(algorithm))
    assert verdict(token, keys) == "allowed"

    for position, letter in enumerate(token):
        for bit in range(8):
            flipped = chr(ord(letter) ^ 1 << bit)
            changed = token[:position] + flipped + token[position + 1 :]
            assert verdict(changed, keys) != "allowed", f"bit {bit} of character {position}"


@pytest.mark.parametrize("algorithm", FAMILIES)
def test_JW_24_no_prefix_of_a_token_is_a_token(algorithm: str) -> None:
    token, keys = signed(algorithm), key_set(key(algorithm))

    for length in range(len(token)):
        assert verdict(token[:length], keys) != "allowed", f"{length} characters"


@pytest.mark.parametrize("algorithm", FAMILIES)
@given(data=st.data())
@settings(deadline=None)
def test_JW_24_no_change_of_the_bytes_behind_the_text_goes_unnoticed(
    algorithm: str, data: st.DataObject
) -> None:
    parts = [base64.urlsafe_b64decode(part + "==") for part in signed(algorithm).split(".")]
    number = data.draw(st.integers(0, 2), label="part")
    part = parts[number]
    start = data.draw(st.integers(0, len(part)), label="start")
    end = data.draw(st.integers(start, min(len(part), start + 8)), label="end")
    insert = data.draw(st.binary(max_size=8), label="instead")
    changed = part[:start] + insert + part[end:]
    if changed == part:
        return
    parts[number] = changed
    assert verdict(".".join(map(base64url, parts)), key_set(key(algorithm))) != "allowed"


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
NAMES = st.sampled_from(
    ("alg", "typ", "kid", "crit", "jwk", "iss", "exp", "nbf", "iat", "aud", "sub", "jti", "cnf")
)
OBJECTS = st.dictionaries(NAMES | st.text(), JSON_VALUES)


@given(st.text() | st.binary().map(lambda data: data.decode("latin-1")))
@example("..")
@example("\ud800.\ud800.\ud800")
def test_JW_24_random_text_is_refused_and_nothing_worse(token: str) -> None:
    with pytest.raises(Unauthenticated):
        jwt.parse(token)


@given(st.lists(st.binary(), min_size=3, max_size=3))
@settings(deadline=None)
def test_JW_24_random_bytes_in_three_parts_are_refused_and_nothing_worse(
    parts: list[bytes],
) -> None:
    assert verdict(".".join(map(base64url, parts)), key_set(key())) != "allowed"


@given(header=OBJECTS, claims=OBJECTS)
@settings(deadline=None)
@example(header={}, claims={"typ": []})
@example(header={}, claims={"typ": {}, "aud": [[]], "exp": 2**2000})
def test_JW_24_whatever_json_is_signed_there_is_a_verdict(
    header: dict[str, Any], claims: dict[str, Any]
) -> None:
    signer = key("EdDSA")
    own = {"alg": "EdDSA", "kid": signer.kid}
    rules = replace(RULES, audience=frozenset(("api",)))
    # Nothing but our own error may come of it; which one, or none, is not the point here.
    verdict(signer.sign(header, CLAIMS), key_set(signer), rules)
    verdict(signer.sign(own, CLAIMS | claims), key_set(signer), rules)


# --- Tokens with strings attached -----------------------------------------------------

CONFIRMATIONS: Final[Mapping[str, Any]] = {
    "DPoP": {"jkt": "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I"},
    "mutual TLS": {"x5t#S256": "bwcK0esc3ACC3DB2Y5_lESsXE8o9ltc05O89jdN-dg2"},
    "unknown": {"future": 1},
    "empty": {},
}


async def test_JW_25_a_token_bound_to_a_key_is_no_bearer_token(
    idp: RunningIdp, make_authz: MakeAuthz
) -> None:
    tokens = {case: idp.issue(cnf=value) for case, value in CONFIRMATIONS.items()}

    assert await verdicts(make_authz(), tokens) == each(tokens, UNSUPPORTED)


async def test_JW_26_delegation_and_nonce_say_nothing_about_who_calls(
    idp: RunningIdp, make_authz: MakeAuthz
) -> None:
    tokens = {
        "act": idp.issue(act={"sub": "somebody"}),
        "may_act": idp.issue(may_act={"sub": "somebody"}),
        "nonce": idp.issue(nonce="n-0S6_WzA2Mj"),
        "azp of another": idp.issue(azp="other_id"),
    }

    assert await verdicts(make_authz(), tokens) == each(tokens, ALLOWED)
    # The claim that the file names decides alone.
    stranger = {"client_id of another": idp.issue("other_id", azp="kong_id")}
    assert await verdicts(make_authz(), stranger) == each(stranger, "403 consumer_unknown")


async def test_JW_27_a_bearer_token_may_be_used_again(
    idp: RunningIdp, make_authz: MakeAuthz
) -> None:
    tokens = {"first": idp.issue(jti="same"), "another": idp.issue(jti="same", iat=1)}
    tokens["again"] = tokens["first"]

    assert await verdicts(make_authz(), tokens) == each(tokens, ALLOWED)


# --- Sizes ----------------------------------------------------------------------------


HEADER_BYTES_MAX: Final = 16_384


def of_length(idp: RunningIdp, length: int) -> str:
    """A good token of exactly so many characters: JSON may end in spaces."""
    claims = json.dumps(idp.access_claims("kong_id", "openid")).encode()
    header = json.dumps({"alg": "RS256", "kid": idp.keys[0].kid}).encode()
    signature = base64url(bytes(2048 // 8))
    for spaces in range(3):
        head = header + b" " * spaces
        room = length - len(f"{base64url(head)}..{signature}")
        token = idp.sign(head, claims.ljust(room * 3 // 4))
        if len(token) == length:
            return token
    raise AssertionError(length)


async def test_JW_29_the_longest_header_passes_and_one_byte_more_does_not(
    idp: RunningIdp, make_authz: MakeAuthz
) -> None:
    longest = HEADER_BYTES_MAX - len("Bearer ")
    tokens = {"longest": of_length(idp, longest), "longer": of_length(idp, longest + 1)}

    assert await verdicts(make_authz(), tokens) == {
        "longest": ALLOWED,
        "longer": "401 credential_malformed",
    }


async def test_JW_29_the_parser_has_the_same_limit(idp: RunningIdp) -> None:
    assert jwt.parse(of_length(idp, jwt.TOKEN_BYTES_MAX)).kid == idp.keys[0].kid
    with pytest.raises(Unauthenticated, match="too long"):
        jwt.parse(of_length(idp, jwt.TOKEN_BYTES_MAX + 1))


def test_JW_30_there_is_no_shared_secret_to_guess() -> None:
    assert not any(name.startswith("HS") for name in jwks.ALGORITHMS)
    assert unusable({"kty": "oct", "kid": "k", "k": base64url(b"secret"), "alg": "HS256"})
    assert unusable(key().jwk | {"alg": "HS256"})
