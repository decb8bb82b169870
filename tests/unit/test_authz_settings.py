"""How gateways are answered, as settings say it."""

from typing import Any

import pytest

from verifier._authz import FIXED_HEADERS, Authz
from verifier.errors import InvalidInput
from verifier.server.authz import authz_of, header_of, place_of
from verifier.server.settings import Settings, read_settings


def settings(**values: Any) -> Settings:
    return read_settings({f"authz_{name}": value for name, value in values.items()}, {}).settings


@pytest.mark.parametrize(("text", "place"), [
    ("X-Api-Key", ("header", "x-api-key", "")), ("authorization: Bearer", ("scheme", "authorization", "bearer")),
    ("Authorization:ApiKey", ("scheme", "authorization", "apikey")), ("query:Api_Key", ("query", "Api_Key", "")),
    ("query: k", ("query", "k", "")), ("query", ("header", "query", "")),
])
def test_places(text: str, place: tuple[str, str, str]):
    assert place == place_of(text)
    assert (text,) == settings(keys=(text,)).authz_keys
    assert isinstance(authz_of(settings(keys=(text,))), Authz)


@pytest.mark.parametrize(("name", "values"), [
    ("keys", ["", ":", "x api", "a:b:c", "x-api-key:", "x" * 65, "Host", "transfer-encoding", "x-forwarded-for",
              "X-Verifier-Client", "x-verifier-anything", "é", "query:a b", "query:", "x\n", ":path"]),
    ("realm", ["", 'a"b', "a\\b", "é", "a\n", "x" * 129]),
    ("metadata", ["", "client", "key_id", "Key.Id", "revision", "a b", "é", "x" * 65, "-a", "a\n", "a:b"]),
    ("disclose", ["some", ""]), ("deprecation", ["yes"]), ("faults", ["deny"]), ("forwarded_hops", ["9", "-1", "all"]),
])  # fmt: skip
def test_what_is_not_accepted(name: str, values: list[str]):
    for value in values:
        with pytest.raises(InvalidInput):
            settings(**{name: (value,) if name in ("keys", "metadata") else value})


@pytest.mark.parametrize(("name", "values", "message"), [
    ("keys", ("x-a", "X-A"), "the same twice"), ("keys", ("authorization", "authorization: Bearer"), "both with"),
    ("keys", tuple(f"x-{number}" for number in range(9)), "at most 8 places"),
    ("metadata", ("cost_center", "cost.center"), "the same twice"),
    ("metadata", tuple(f"m{number}" for number in range(17)), "16 metadata names"),
])
def test_what_contradicts_itself(name: str, values: tuple[str, ...], message: str):
    with pytest.raises(InvalidInput, match=message):
        authz_of(settings(**{name: values}))


def test_gateways_may_be_turned_off():
    assert authz_of(settings(**{"keys": ("x-a",)})) is not None
    assert authz_of(read_settings({"authz": "off"}, {}).settings) is None


def test_several_values_from_the_environment():
    read = read_settings({}, {"VERIFIER_AUTHZ_KEYS": "authorization: Bearer, query:k",
                              "VERIFIER_AUTHZ_METADATA": "plan,zone"}).settings
    assert (("authorization: Bearer", "query:k"), ("plan", "zone")) == (read.authz_keys, read.authz_metadata)


def test_metadata_never_takes_a_fixed_header():
    assert "x-verifier-cost-center" == header_of("Cost_Center")
    assert all(name.startswith("x-verifier-") and name == name.lower() for name in FIXED_HEADERS)
    assert 6 == len(set(FIXED_HEADERS))


@pytest.mark.parametrize("arguments", [
    {"places": ()}, {"places": (("cookie", "a", ""),)}, {"places": (("header", "", ""),)},
    {"places": (("header", "x" * 65, ""),)}, {"places": (("scheme", "authorization", ""),)},
    {"realm": "x" * 129}, {"forwarded_hops": 9}, {"metadata": (("", "x-verifier-a"),)},
    {"metadata": (("a" * 65, "x-verifier-a"),)},
])  # fmt: skip
def test_the_compiled_form_takes_nothing_too_long(arguments: dict[str, Any]):
    with pytest.raises(ValueError, match=r"at most|characters|places are"):
        Authz(**arguments)


def test_no_part_of_a_record_is_told_twice():
    with pytest.raises(ValueError, match="at most once"):
        Authz(metadata=(("plan", "x-verifier-a"), ("plan", "x-verifier-b")))


def test_the_longest_of_everything_fits():
    Authz((("scheme", "a" * 64, "bearer"), ("query", "b" * 64, "")), realm="r" * 128,
          metadata=tuple((f"{number:064}", f"x-verifier-{number:064}") for number in range(16)), forwarded_hops=8)
