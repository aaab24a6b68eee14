"""The caller brings a client's id and secret, which are exchanged for a token."""

from __future__ import annotations

from support.methods import Subject
from support.running import KONG_ID, KONG_SECRET

from authz.credentials import basic

SUBJECT = Subject(
    good=lambda _idp: {"authorization": basic(KONG_ID, KONG_SECRET)},
    bad=lambda _idp: {"authorization": basic(KONG_ID, "another secret")},
    refused="secret_rejected",
    elsewhere=lambda _idp: {"path": f"/get?client_id={KONG_ID}&client_secret={KONG_SECRET}"},
    endpoint="token",
    parameters={"client_credentials_param_type": ("header", "query")},
)
