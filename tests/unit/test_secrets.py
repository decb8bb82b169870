"""The secrets folder: made once, private, and never with a second pepper."""

import stat
from concurrent.futures import ThreadPoolExecutor

import pytest

from verifier.errors import Conflict, InvalidInput, Unavailable, VerifierError
from verifier.store.secrets import Secrets, parse_peppers


def contents(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


def test_create_makes_everything_once(tmp_path):
    secrets = Secrets(tmp_path / "secrets", {})
    secrets.create()
    before = contents(tmp_path)
    secrets.create()
    secrets.create("p2")
    assert before == contents(tmp_path)
    assert ["p1"] == list(secrets.peppers())
    assert 32 == len(secrets.peppers()["p1"])
    assert (secrets.signing_key().key_id,) == secrets.trust().key_ids


def test_folders_and_files_are_private(tmp_path):
    secrets = Secrets(tmp_path / "secrets", {})
    secrets.create()
    assert [0o700, 0o700] == [mode(secrets.folder), mode(secrets.folder / "peppers")]
    assert [0o600, 0o600] == [mode(secrets.signing_path), mode(secrets.folder / "peppers" / "p1")]


def test_many_at_once_make_one_pepper_and_one_key(tmp_path):
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: Secrets(tmp_path / "secrets", {}).create(), range(24)))
    assert 3 == len(contents(tmp_path))


def test_create_after_a_crash_adds_only_what_is_missing(tmp_path):
    secrets = Secrets(tmp_path, {})
    secrets.create()
    before = contents(tmp_path)
    secrets.trusted_path.unlink()
    secrets.create()
    assert before == contents(tmp_path)


def test_a_nodes_folder_gets_no_signing_key(tmp_path):
    secrets = Secrets(tmp_path, {})
    secrets.create()
    secrets.signing_path.unlink()
    with pytest.raises(Conflict) as caught:
        secrets.create()
    assert "NO_SIGNING_KEY" == caught.value.code
    assert not secrets.signing_path.exists()


def test_pepper_file_is_64_hex_digits_and_a_newline(tmp_path):
    secrets = Secrets(tmp_path, {})
    pepper = secrets.add_pepper("2026.a")
    assert pepper.hex() + "\n" == (tmp_path / "peppers" / "2026.a").read_text()
    with pytest.raises(Conflict):
        secrets.add_pepper("2026.a")
    assert {"2026.a": pepper} == secrets.peppers()


@pytest.mark.parametrize("pepper_id", ["", "P1", "../p", ".p", "a/b", "p" * 33, "p 1"])
def test_a_pepper_id_that_is_no_plain_name_is_refused(tmp_path, pepper_id):
    with pytest.raises(InvalidInput):
        Secrets(tmp_path, {}).add_pepper(pepper_id)


@pytest.mark.parametrize("text", ["", "ab" * 31, "ab" * 33, "AB" * 32, "ab" * 32 + "\n\n", "zz" * 32])
def test_a_damaged_pepper_is_refused_without_showing_it(tmp_path, text):
    secrets = Secrets(tmp_path, {})
    secrets.create()
    (tmp_path / "peppers" / "p1").write_text(text)
    with pytest.raises(Unavailable) as caught:
        secrets.peppers()
    assert "ab" * 8 not in str(caught.value).lower()


def test_an_exposed_pepper_draws_a_warning(tmp_path, caplog):
    secrets = Secrets(tmp_path, {})
    secrets.create()
    (tmp_path / "peppers" / "p1").chmod(0o644)
    assert ["p1"] == list(secrets.peppers())
    assert "chmod 600" in caplog.text


def test_peppers_from_the_environment(tmp_path):
    one, two = "11" * 32, "22" * 32
    (tmp_path / "file").write_text(f"p2:{two}\n")
    environment = {"VERIFIER_PEPPERS": f"p1:{one}, p2:{two}", "VERIFIER_PEPPERS_FILE": str(tmp_path / "file")}
    secrets = Secrets(tmp_path / "none", environment)
    assert {"p1": bytes.fromhex(one), "p2": bytes.fromhex(two)} == secrets.peppers()


def test_environment_and_folder_must_agree(tmp_path):
    secrets = Secrets(tmp_path, {"VERIFIER_PEPPERS": "p1:" + "11" * 32})
    Secrets(tmp_path, {}).create()
    with pytest.raises(Conflict):
        secrets.peppers()


@pytest.mark.parametrize("text", ["p1", "p1:" + "11" * 31, "P1:" + "11" * 32, f"p1:{'11' * 32} p1:{'22' * 32}"])
def test_peppers_of_another_form_are_refused_without_showing_them(text):
    with pytest.raises(VerifierError) as caught:
        parse_peppers(text)
    assert "1111" not in str(caught.value)
