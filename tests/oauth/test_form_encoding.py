"""Form encoding."""

from __future__ import annotations

from urllib.parse import parse_qsl, quote_plus, urlencode

from hypothesis import given
from hypothesis import strategies as st

from authz.oauth import form_encoding

TEXTS = st.text(st.characters(exclude_categories=["Cs"]))


@given(text=TEXTS)
def test_a_text_is_encoded_as_urllib_does_it(text: str) -> None:
    assert form_encoding.quoted(text) == quote_plus(text)


@given(fields=st.lists(st.tuples(TEXTS, TEXTS)))
def test_fields_are_encoded_as_urllib_does_it_and_can_be_read_back(
    fields: list[tuple[str, str]],
) -> None:
    assert form_encoding.encoded(fields) == urlencode(fields)
    assert parse_qsl(form_encoding.encoded(fields), keep_blank_values=True) == fields
