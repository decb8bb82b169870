"""Tokens: format, checksum, tag; and that the compiled forms agree with the plain ones."""

import hashlib
import hmac
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from verifier import _issue, _tag, tokens
from verifier.errors import InvalidInput

PREFIXES = st.from_regex(r"[a-z0-9]{1,8}(_[a-z0-9]{1,7}){0,2}", fullmatch=True)
PEPPERS = st.lists(st.binary(min_size=1, max_size=100), min_size=1, max_size=4)


def test_checksum_has_the_published_vector():
    assert tokens.checksum("zQWBuTSOoRi4A9spHcVY5ncnsDkxkJ") == "0mLq17"


@given(st.binary(max_size=200).filter(bytes.isascii))
def test_checksum_is_the_crc_in_base62(data: bytes):
    value = 0
    for digit in tokens.checksum(data):
        value = value * 62 + tokens.BASE62.index(digit)
    assert value == zlib.crc32(data)
    assert _tag.checksum(data).decode() == tokens.checksum(data)


@given(PREFIXES)
def test_what_is_generated_parses(prefix: str):
    token = tokens.generate(prefix)
    parsed = tokens.parse(token)
    assert prefix == parsed.prefix
    assert token == parsed.text
    assert len(parsed.secret) == 27
    assert tokens.parse(token.encode()) == parsed


@given(st.data())
def test_any_changed_character_is_noticed(data: st.DataObject):
    token = tokens.generate()
    at = data.draw(st.integers(0, len(token) - 1))
    other = data.draw(st.sampled_from(sorted(set(tokens.BASE62 + "_") - {token[at]})))
    with pytest.raises(tokens.MalformedToken):
        tokens.parse(token[:at] + other + token[at + 1 :])


@given(st.one_of(st.text(max_size=600), st.binary(max_size=600)))
def test_parse_refuses_or_returns_what_it_was_given(text: str | bytes):
    try:
        parsed = tokens.parse(text)
    except tokens.MalformedToken as error:
        assert error.exit_code == 2
    else:
        assert parsed.text == (text if isinstance(text, str) else text.decode())


def with_checksum(head: str) -> str:
    return head + tokens.checksum(head)


@pytest.mark.parametrize("token", [
    "", "_", "vk_live_", "vk_live",
    "a" * 513,
    with_checksum("vk_live_" + "a" * 26),                 # 26 digits: too few bits
    with_checksum("a" * 27),                              # no prefix
    with_checksum("_" + "a" * 27),                        # an empty one
    with_checksum("Vk_" + "a" * 27), with_checksum("vk__live_" + "a" * 27), with_checksum("_vk_" + "a" * 27),
    with_checksum("p" * 33 + "_" + "a" * 27),
    with_checksum("vk_" + "a" * 26 + "-"),
    "vk_live_" + "ä" * 40, b"\xff" * 40, "\ud800" * 40,
    with_checksum("vk_live_" + "a" * 27) + "\n",
])
def test_malformed(token: str | bytes):
    with pytest.raises(tokens.MalformedToken):
        tokens.parse(token)


@pytest.mark.parametrize("token", [
    with_checksum("v_" + "a" * 27), with_checksum("p" * 32 + "_" + "z" * 27), with_checksum("a1_2b_" + "Z" * 200),
    with_checksum("v_" + "a" * (512 - 8)),
])
def test_well_formed(token: str):
    assert tokens.parse(token).text == token


def test_neither_errors_nor_repr_show_the_secret():
    token = tokens.generate()
    secret = token.split("_")[-1]
    assert secret[:8] not in repr(tokens.parse(token))
    with pytest.raises(tokens.MalformedToken) as caught:
        tokens.parse(token[:-1] + "~")
    assert secret[:8] not in f"{caught.value!r} {caught.value.hint} {caught.value.to_json()}"


def test_a_token_given_as_a_name_is_not_quoted():
    token = tokens.generate()
    assert token[8:20] not in tokens.quoted(token)
    assert tokens.quoted("key_c246em5rsyqdv81v") == "'key_c246em5rsyqdv81v'"


@pytest.mark.parametrize("prefix", ["", "A", "a-b", "_a", "a_", "a__b", "a" * 33, "ä", "a\n"])
def test_unusable_prefixes(prefix: str):
    with pytest.raises(InvalidInput) as caught:
        tokens.check_prefix(prefix)
    assert caught.value.code == "BAD_PREFIX"


@given(st.binary(max_size=200).filter(bytes.isascii), PEPPERS)
def test_the_compiled_tag_is_the_plain_one(token: bytes, peppers: list[bytes]):
    expected = hashlib.sha256(token).digest()
    for pepper in peppers:
        expected = hmac.new(pepper, expected, hashlib.sha256).digest()
    assert expected == tokens.tag(token, peppers)
    tagger = _tag.Tagger(peppers)
    assert expected == tagger.tag(token)
    assert expected == tagger.tag_of_digest(hashlib.sha256(token).digest())


def test_a_tag_needs_a_pepper_and_a_whole_digest():
    with pytest.raises(ValueError, match="pepper"):
        tokens.tag("x", [])
    with pytest.raises(ValueError, match="32 bytes"):
        tokens.tag_of_digest(b"short", [b"p"])


@given(PREFIXES, st.integers(0, 300), PEPPERS)
def test_tokens_made_in_bulk_are_tokens(prefix: str, count: int, peppers: list[bytes]):
    lines, tags = _issue.make_tokens(prefix.encode(), count, peppers)
    made = lines.decode().splitlines()
    assert count == len(made) == len(tags) == len(set(made))
    assert lines == b"" or lines.endswith(b"\n")
    for token, tag in zip(made, tags, strict=True):
        assert prefix == tokens.parse(token).prefix
        assert len(tokens.parse(token).secret) == 27
        assert tag == tokens.tag(token, peppers)


def test_digits_made_in_bulk_are_evenly_spread():
    lines, _ = _issue.make_tokens(b"p", 10_000, [b"x"])
    secrets = "".join(line[2:29] for line in lines.decode().splitlines())
    expected = len(secrets) / 62
    chi_square = sum((secrets.count(digit) - expected) ** 2 / expected for digit in tokens.BASE62)
    assert chi_square < 150  # 61 degrees of freedom: once in 10^8 runs


def test_key_ids_made_in_bulk():
    made = _issue.make_key_ids(10_000)
    assert len(set(made)) == 10_000
    assert all(len(key_id) == 20 and key_id.startswith("key_") for key_id in made)
    assert set("".join(made)[4:]) <= set("0123456789abcdefghjkmnpqrstvwxyz_key")


@pytest.mark.parametrize(("prefix", "peppers"), [(b"", [b"p"]), (b"p" * 33, [b"p"]), (b"p", []), (b"p", [b"p"] * 5)])
def test_bulk_refuses_what_it_has_no_room_for(prefix: bytes, peppers: list[bytes]):
    with pytest.raises(ValueError):
        _issue.make_tokens(prefix, 1, peppers)
