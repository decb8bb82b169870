"""What a key may be given."""

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from verifier.control.terms import Terms, check_id, check_metadata, check_rules
from verifier.errors import InvalidInput
from verifier.keyring.records import Record, check_scopes, decode_record, encode_record


@pytest.mark.parametrize("text", ["", "a b", "a/b", "ä", "a" * 65, "a\n", "a,b"])
def test_unusable_ids(text: str):
    with pytest.raises(InvalidInput):
        check_id("client", text)


@pytest.mark.parametrize("text", ["a", "A-1.b_c", "a" * 64])
def test_usable_ids(text: str):
    assert check_id("client", text) == text


def test_scopes_are_sorted_and_distinct():
    assert check_scopes(["b", "a", "b"]) == ("a", "b")


@pytest.mark.parametrize("scopes", [
    ["a b"], ["a,b"], [""], ['"'], ["\\"], ["ä"], ["a" * 129], [f"s{n}" for n in range(65)],
])
def test_unusable_scopes(scopes: list[str]):
    with pytest.raises(InvalidInput) as caught:
        check_scopes(scopes)
    assert caught.value.code == "BAD_SCOPE"


def test_a_network_with_host_bits_is_refused_with_what_was_meant():
    with pytest.raises(InvalidInput) as caught:
        check_rules(["10.1.2.3/8"])
    assert "10.0.0.0/8" in (caught.value.hint or "")


@pytest.mark.parametrize("rule", ["", "10.0.0.0/33", "localhost", "10.0.0.0-10.0.0.9", "::/129", "1.2.3"])
def test_unusable_rules(rule: str):
    with pytest.raises(InvalidInput) as caught:
        check_rules([rule])
    assert caught.value.code == "BAD_RULE"


@given(st.lists(st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6)), max_size=8))
def test_single_addresses_are_networks_too(addresses: list[ipaddress.IPv4Address | ipaddress.IPv6Address]):
    rules = check_rules([str(address) for address in addresses])
    assert {str(ipaddress.ip_network(address)) for address in addresses} == set(rules)
    assert check_rules(reversed(rules)) == rules


@pytest.mark.parametrize("metadata", [
    {f"n{n}": "" for n in range(17)}, {"a": "x" * 1024}, {"": "x"}, {"a b": "x"}, {"a": "x\ny"}, {"a": "\x00"},
    {"a": "\ud800"}, {"a": 5}, {"a" * 65: "x"},
])
def test_unusable_metadata(metadata: dict[str, str]):
    with pytest.raises(InvalidInput) as caught:
        check_metadata(metadata)
    assert caught.value.code == "BAD_METADATA"


SCOPES = st.lists(st.from_regex(r"[!#-+\--\[\]-~]{1,20}", fullmatch=True), max_size=20)
TEXT = st.text(max_size=30).filter(str.isprintable)
METADATA = st.dictionaries(st.from_regex(r"[A-Za-z0-9._-]{1,20}", fullmatch=True), TEXT, max_size=8)


@given(SCOPES, METADATA)
def test_what_terms_accept_a_record_can_hold(scopes: list[str], metadata: dict[str, str]):
    terms = Terms(scopes=tuple(scopes), rules=("10.0.0.0/8",), metadata=metadata).checked(1000)
    record = Record(client_id="acme", key_id="key_1", version=1, scopes=terms.scopes, metadata=terms.metadata,
                    rules=terms.rules)
    tag = bytes(range(32))
    value = encode_record(record, tag)
    decoded_tag, decoded = decode_record(tag[:16], value)
    assert tag == decoded_tag
    assert (terms.scopes, terms.metadata, terms.rules) == (decoded.scopes, dict(decoded.metadata), decoded.rules)
