"""The description of a keyring in a manifest: there and back, and nothing but that."""

import copy
import json
from typing import Any

import pytest

from verifier.errors import UnsoundPublication
from verifier.keyring.description import Block, KeyringDescription, Segments

DESCRIPTION = KeyringDescription(
    sha256="ab" * 32, bytes=40_960, format=1, kind="base", base=None, features=(), records=9, peppers=("p1",),
    prefixes=(("vk_live", "NATIVE"), ("old", "MIXED")), accepts_foreign=False, slots=Block(8208, 4096),
    switches=Block(16400, 4096), segments=Segments(16_777_216, ("0123456789abcdef",)),
)  # fmt: skip


def test_there_and_back():
    text = json.dumps(DESCRIPTION.to_json())
    assert DESCRIPTION == KeyringDescription.from_json(json.loads(text))


def test_the_example_of_the_publication_format_has_the_same_keys():
    wanted = {"sha256", "bytes", "format", "kind", "base", "features", "records", "peppers", "prefixes",
              "accepts_foreign", "slots", "switches", "segments"}  # fmt: skip
    assert wanted == set(DESCRIPTION.to_json())


def test_unknown_keys_are_ignored():
    assert DESCRIPTION == KeyringDescription.from_json({**DESCRIPTION.to_json(), "later": 1})


@pytest.mark.parametrize("name", sorted(set(DESCRIPTION.to_json()) - {"base"}))
def test_nothing_may_be_missing(name: str):
    body = DESCRIPTION.to_json()
    del body[name]
    with pytest.raises(UnsoundPublication):
        KeyringDescription.from_json(body)


@pytest.mark.parametrize(("place", "value"), [
    ("sha256", "AB" * 32), ("sha256", "ab"), ("bytes", -1), ("bytes", True), ("bytes", 1.0), ("bytes", "1"),
    ("kind", "other"), ("kind", "delta"), ("base", "cd" * 32), ("features", [1]), ("features", "x"),
    ("records", None), ("peppers", [None]), ("prefixes", [["a"]]), ("prefixes", [["a", "OTHER"]]),
    ("prefixes", ["ab"]), ("accepts_foreign", 0), ("slots", [8208, 4096]), ("slots", {"offset": 8208}),
    ("slots", {"offset": 40_000, "bytes": 4096}), ("switches", {"offset": -8, "bytes": 4096}),
    ("segments", {"bytes": 0, "xxh3_64": []}), ("segments", {"bytes": 16_777_216, "xxh3_64": []}),
    ("segments", {"bytes": 16_777_216, "xxh3_64": ["xyz"]}), ("segments", {"bytes": 4096, "xxh3_64": ["0" * 16]}),
])  # fmt: skip
def test_nothing_may_be_otherwise(place: str, value: Any):
    body = copy.deepcopy(DESCRIPTION.to_json())
    body[place] = value
    with pytest.raises(UnsoundPublication):
        KeyringDescription.from_json(body)
