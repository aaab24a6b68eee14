"""``${{ env }}`` and ``{vault://env}``: values come in, and never become YAML or messages."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st
from support.configuration import FORMAT, PLUGIN, complaints, config, load, with_parameters

from authz.kong import document
from authz.kong.environment import VALUES_CHARS_MAX, Vaults
from authz.kong.problems import Problems
from authz.model import Secret

if TYPE_CHECKING:
    from collections.abc import Iterator

CANARY = "hunter2-canary"


def test_a_template_inside_of_quotes_is_filled_in() -> None:
    read = config('scopes: ["${{ env "DECK_SCOPE" }}"]', DECK_SCOPE="orders")
    assert read.exchange.scopes == ("orders",)


def test_a_plain_template_takes_the_type_that_is_asked_for() -> None:
    read = config(
        'leeway: ${{ env "DECK_LEEWAY" }}',
        'ssl_verify: ${{ env "DECK_VERIFY" | toBool }}',
        'client_id: [${{ env "DECK_ID" }}]',
        'client_secret: [${{ env "DECK_SECRET" }}]',
        DECK_LEEWAY="5",
        DECK_VERIFY="0",
        DECK_ID="12345",
        DECK_SECRET="true",
    )
    assert (read.token.leeway, read.provider.ssl_verify) == (5, False)
    assert read.client.client_id == ("12345",)
    assert read.client.client_secret == (Secret("true"),)


# Where a template may stand, and the text in front of and behind it.
CREDENTIAL_LOCATIONS = {
    "plain": "a: {}\n",
    "plain item": "a:\n- {}\n",
    "plain item in brackets": "a: [{}, x]\n",
    "plain in braces": "a: {{b: {}, c: d}}\n",
    "in double quotes": 'a: "{}"\n',
    "in single quotes": "a: '{}'\n",
    "in double quotes in brackets": 'a: ["{}", x]\n',
}


@pytest.mark.parametrize("position", CREDENTIAL_LOCATIONS.values(), ids=CREDENTIAL_LOCATIONS)
@given(value=st.text("ab0 #:,-?!&*|>'\"%@`[]{}\\\n~", max_size=6))
@example(value="x # y")
@example(value="a, b")
@example(value="a: b")
@example(value="[a, b]")
@example(value="a\\tb")
def test_D_06_a_value_that_decks_way_of_pasting_would_change_is_known(
    position: str, value: str
) -> None:
    """What is called the same is the same where the parser gets the value itself."""
    problems = Problems()
    template = position.format('${{ env "DECK_A" }}')
    node = document.parse(template.encode(), "f", {"DECK_A": value}, problems)
    problems.raise_errors()
    assert isinstance(node, document.MappingNode)
    [filled] = from_variables(node)

    called_the_same = isinstance(filled, document.Scalar) and filled.pasted is document.Pasted.SAME
    is_the_same = texts(position.format(value)) == texts(position.format("PASTED"), pasted=value)
    assert called_the_same == is_the_same


def from_variables(node: document.Node) -> Iterator[document.Scalar | document.ListNode]:
    if isinstance(node, document.Scalar | document.ListNode) and node.variables:
        yield node
    elif isinstance(node, document.ListNode):
        for item in node.items:
            yield from from_variables(item)
    elif isinstance(node, document.MappingNode):
        for entry in node.entries.values():
            yield from from_variables(entry.value)


def texts(written: str, pasted: str = "") -> list[str] | None:
    """Return the events of a text, ``PASTED`` made to ``pasted`` after it was parsed."""
    try:
        events = [
            (
                type(e).__name__,
                getattr(e, "value", ""),
                getattr(e, "tag", ""),
                getattr(e, "anchor", ""),
            )
            for e in yaml.parse(written, Loader=yaml.CSafeLoader)
        ]
    except yaml.YAMLError:
        return None
    return [str((kind, value.replace("PASTED", pasted), *rest)) for kind, value, *rest in events]


@pytest.mark.parametrize("value", ["a # &x: {{", "a: b", "*a", "!!null", "'a'", "a\\tb", "- a"])
def test_a_value_never_becomes_yaml(value: str) -> None:
    for template in ('"${{ env "DECK_A" }}"', "'${{ env \"DECK_A\" }}'", '${{ env "DECK_A" }}'):
        found = complaints(
            with_parameters(f"unauthorized_error_message: {template}"), {"DECK_A": value}
        )
        if found:  # in plain text it may be a mapping to decK, and is refused then
            assert "more than one value to decK" in found[0]
            continue
        read = config(f"unauthorized_error_message: {template}", DECK_A=value)
        assert read.answers.unauthorized_error_message == value


@pytest.mark.parametrize("begin", "*!&%@`{[|>-?:#'\"")
def test_a_secret_that_lacks_its_quotes_is_in_no_message(begin: str) -> None:
    for item in (begin + CANARY, f"{begin} {CANARY}", f"{begin}{CANARY}: x"):
        assert CANARY not in " ".join(complaints(with_parameters(f"client_secret: {item}")))


def test_a_secret_that_looks_like_a_variable_in_part_is_in_no_message() -> None:
    [found] = complaints(with_parameters("client_secret: 'a${hunter}b'"))
    assert 'write ${{ env "DECK_NAME" }}' in found


def test_a_value_is_not_looked_at_deeper_than_a_file_may_be() -> None:
    """The parser takes a second for every 10,000 brackets that stay open."""
    nested = "[" * (document.DEPTH_MAX + 2) + "]" * (document.DEPTH_MAX + 2)
    assert config('scopes: ${{ env "DECK_A" }}', DECK_A=nested).exchange.scopes == (nested,)


def test_a_template_that_does_not_close_takes_the_rest_of_its_line() -> None:
    """Each ${{ would look through all of the line for an end that is not there."""
    [found] = complaints(FORMAT + "_comment: " + "${{ x " * 1_000)
    assert found.startswith("2:11: env: this template is not understood")


def test_values_that_multiply_are_stopped() -> None:
    value = "x" * (VALUES_CHARS_MAX // 100)
    text = FORMAT + "_comment:\n" + '- ${{ env "DECK_A" }}\n' * 1_000
    [found] = complaints(text, {"DECK_A": value})
    assert found.startswith("103:3: env: the values grow beyond 33554432 characters")


def test_text_around_a_template_stays() -> None:
    read = config('issuer: https://${{ env "DECK_H" }}/x', instead_of="issuer", DECK_H="idp.test")
    assert read.provider.issuer == "https://idp.test/x"


def test_columns_after_a_template_are_those_of_the_file() -> None:
    text = '_format_version: "3.0"\n_konnect: {a: "${{ env "DECK_A" }}"}\n'
    assert complaints(text + '_ignore: ["${{ env "DECK_A" }}", *x]', {"DECK_A": "1"}) == [
        "3:34: file: an alias of no anchor above; a text that begins with * needs quotes"
    ]


@pytest.mark.parametrize(
    "environ", [{}, {"DECK_A": "\n    ssl_verify: false"}], ids=["not set", "set"]
)
def test_templates_in_comment_lines_are_left_alone(environ: dict[str, str]) -> None:
    text = PLUGIN + '    # ${{ env "DECK_A" }}\n'
    assert load(text, environ) == load(PLUGIN)


@pytest.mark.parametrize(
    ("template", "complaint"),
    [
        ('${{ env "DECK_NO" }}', "the environment variable DECK_NO is not set"),
        ('${{ env "HOME" }}', "'HOME' must start with DECK_, as decK wants it: DECK_HOME"),
        ("${{ DECK_A }}", "this template is not understood"),
        ('${{ env "DECK_A" | upper }}', "this template is not understood"),
        ("${{ env", "this template is not understood"),
        ('${{ env "DECK_A" | toInt }}', "the value of DECK_A does not fit toInt"),
        ('${{ env "DECK_A" | toBool }}', "the value of DECK_A does not fit toBool"),
        ('${{ env "DECK_A" | toFloat }}', "the value of DECK_A does not fit toFloat"),
    ],
)
def test_a_template_that_cannot_be_filled_is_reported_once(template: str, complaint: str) -> None:
    [found] = complaints(with_parameters(f"client_id: {template}"), {"DECK_A": "x"})
    assert found.startswith("9:16: env: ")
    assert complaint in found


def test_several_lines_fill_a_scalar_with_or_without_indent() -> None:
    for pipe in ("", " | indent 6"):
        read = config(
            "unauthorized_error_message: >-",
            '  ${{ env "DECK_TEXT"' + pipe + " }} please",
            DECK_TEXT="go away",
        )
        assert read.answers.unauthorized_error_message == "go away please"


@pytest.mark.parametrize("bare", ["${client-id}", "'${client-id}'"])
def test_a_bare_variable_gets_the_hint(bare: str) -> None:
    assert complaints(with_parameters(f"client_id: {bare}")) == [
        '9:16: client_id: ${…} is no variable of decK: write ${{ env "DECK_CLIENT_ID" }}'
    ]


def test_a_key_cannot_come_from_the_environment() -> None:
    text = with_parameters('${{ env "DECK_A" }}: 1')
    assert complaints(text, {"DECK_A": CANARY}) == [
        "9:5: env: a key cannot come from the environment"
    ]


@pytest.mark.parametrize(
    "line",
    ["issuers_allowed: 1.5", "auth_methods: x", "leeway: x", "token_endpoint: x", "consumer_by: x"],
)
def test_LG_06_a_complaint_never_quotes_a_value_of_the_environment(line: str) -> None:
    name = line.partition(":")[0]
    found = complaints(
        with_parameters(f'{name}: ["${{{{ env "DECK_X" }}}}\\x01"]', instead_of=name),
        {"DECK_X": CANARY},
    )
    assert found
    assert CANARY not in "".join(found)


def test_LG_06_a_secret_prints_nowhere() -> None:
    read = config(
        'client_id: ["a"]',
        'client_secret: ["${{ env "DECK_X" }}"]',
        f"cache_tokens_salt: {CANARY}",
        DECK_X=CANARY,
    )
    assert read.client.client_secret[0].reveal() == CANARY
    assert CANARY not in repr(read)


@pytest.mark.parametrize(
    "line", ['client_id: ["{}"]', "unauthorized_error_message: {}", "leeway: {}", 'scopes: ["a{}"]']
)
def test_bytes_that_are_no_utf_8_are_refused_wherever_they_go(line: str) -> None:
    environ = {"DECK_X": os.fsdecode(CANARY.encode() + b"\xfc")}
    [found] = complaints(with_parameters(line.replace("{}", '${{ env "DECK_X" }}')), environ)
    assert found.startswith("9:")
    assert found.endswith("env: the value of DECK_X is no UTF-8")


@pytest.mark.parametrize(
    ("reference", "value", "complaint"),
    [
        ("{vault://env/x}", CANARY + "\udcfc", "the value of X is no UTF-8"),
        ("{vault://env/x/key}", f'{{"key": "{CANARY}\udcfc"}}', "the value of X is no UTF-8"),
        ("{vault://env/x/key}", f'{{"key": "{CANARY}\\udcfc"}}', "must be a JSON object"),
    ],
)
def test_bytes_that_are_no_utf_8_are_refused_behind_a_reference_too(
    reference: str, value: str, complaint: str
) -> None:
    [found] = complaints(with_parameters(f'issuers_allowed: ["{reference}"]'), {"X": value})
    assert found.startswith("9:23: issuers_allowed: ")
    assert complaint in found
    assert CANARY not in found


# --- {vault://env/…} ------------------------------------------------------------


def test_a_reference_reads_the_upper_case_variable() -> None:
    read = config(
        'issuers_allowed: "{vault://env/my-issuer}"',
        'scopes: ["{vault://env/pair/scope}"]',
        MY_ISSUER="https://other.example",
        PAIR='{"scope": "orders"}',
    )
    assert read.provider.issuers_allowed == ("https://other.example",)
    assert read.exchange.scopes == ("orders",)


@pytest.mark.parametrize(
    ("reference", "complaint"),
    [
        ("{vault://hcv/x}", "the vault 'hcv' cannot be read here: only env"),
        ("{vault://env/nowhere}", "the environment variable NOWHERE is not set"),
        ("{vault://env/x", "write a reference as"),
        ("{vault://env/text/key}", "TEXT must be a JSON object with the text 'key' in it"),
        ("{vault://env/list/key}", "LIST must be a JSON object with the text 'key' in it"),
        ("{vault://env/object/number}", "OBJECT must be a JSON object with the text 'number'"),
    ],
)
def test_a_reference_that_leads_nowhere_is_reported(reference: str, complaint: str) -> None:
    environ = {"TEXT": CANARY, "LIST": "[1]", "OBJECT": '{"number": 1}'}
    [found] = complaints(with_parameters(f'scopes: ["{reference}"]'), environ)
    assert complaint in found
    assert CANARY not in found
    with pytest.raises(LookupError) as caught:
        Vaults(environ).value(reference)
    assert CANARY not in str(caught.value)


def test_a_reference_where_kong_resolves_none_is_refused() -> None:
    [found] = complaints(with_parameters('token_endpoint: "{vault://env/x}"'), {"X": "y"})
    assert "cannot be a {vault://…} reference" in found
