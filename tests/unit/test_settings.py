"""Settings: precedence, sources, and what is said of what is not accepted."""

from pathlib import Path

import pytest

from verifier.errors import InvalidInput
from verifier.server.settings import (
    Settings,
    fields,
    read_settings,
    setting_of,
    unknown_variables,
)
from verifier.server.values import duration_ms, duration_text, size_bytes, size_text


def toml(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "verifier.toml"
    path.write_text(text)
    return path


def test_flags_win_over_the_environment_that_over_the_file_that_over_defaults(tmp_path: Path):
    config = toml(tmp_path, 'threads = 2\nspin_us = 20\ndrain_timeout = "5s"\n')
    environment = {"VERIFIER_THREADS": "3", "VERIFIER_SPIN_US": "30"}
    read = read_settings({"threads": "4"}, environment, config)
    settings, sources = read.settings, read.sources
    assert (4, 30, 5000, "sealed") == (settings.threads, settings.spin_us, settings.drain_timeout, settings.memory)
    assert ("--threads", "VERIFIER_SPIN_US", f"{config}: drain_timeout", "default") == tuple(
        sources[name] for name in ("threads", "spin_us", "drain_timeout", "memory"))


def test_the_file_may_be_named_by_the_environment(tmp_path: Path):
    config = toml(tmp_path, "threads = 7\n")
    assert read_settings({}, {"VERIFIER_CONFIG": str(config)}).settings.threads == 7


def test_several_addresses(tmp_path: Path):
    config = toml(tmp_path, 'listen = ["127.0.0.1:1", "unix:a.sock"]\n')
    assert read_settings({}, {}, config).settings.listen == ("127.0.0.1:1", "unix:a.sock")
    assert read_settings({}, {"VERIFIER_LISTEN": "[::1]:2, unix:b"}, config).settings.listen == ("[::1]:2", "unix:b")
    assert read_settings({"listen": ("0.0.0.0:3",)}, {}, config).settings.listen == ("0.0.0.0:3",)


@pytest.mark.parametrize(("name", "value"), [
    ("threads", "0"), ("threads", "many"), ("listen", ("localhost",)), ("listen", ("127.0.0.1:70000",)),
    ("listen", ("unix:",)), ("metrics", "unix:x"), ("drain_timeout", "5"), ("drain_timeout", "5 parsecs"),
    ("keyring_bytes_max", "5MB"), ("memory", "ram"), ("log_level", "loud"),
])
def test_bad_values_are_refused_with_their_source(name: str, value: object):
    with pytest.raises(InvalidInput) as caught:
        read_settings({name: value}, {})
    assert caught.value.message.startswith(f"--{name.replace('_', '-')}: ")


@pytest.mark.parametrize(("text", "message"), [
    ("thread = 2\n", "'thread' is not a setting"), ("threads = [1]\n", "not a list"), ("threads = 1.5\n", "1.5"),
    ("threads = true\n", "True"), ("threads = \n", "not TOML"), ("[serve]\nthreads = 1\n", "'serve'"),
])
def test_bad_files_are_refused(tmp_path: Path, text: str, message: str):
    with pytest.raises(InvalidInput, match=message.replace("[", r"\[")):
        read_settings({}, {}, toml(tmp_path, text))


def test_a_misspelt_key_gets_a_hint(tmp_path: Path):
    with pytest.raises(InvalidInput) as caught:
        read_settings({}, {}, toml(tmp_path, "max_stalenes = 2\n"))
    assert caught.value.hint == "did you mean max_staleness?"


def test_only_variables_that_look_like_settings_are_suspicious():
    environment = {"VERIFIER_THREAD": "1", "VERIFIER_SERVICE_HOST": "10.0.0.1", "VERIFIER_PORT_50051_TCP": "x",
                   "VERIFIER_THREADS": "1", "HOME": "/"}
    assert ["VERIFIER_THREAD"] == unknown_variables(environment)


@pytest.mark.parametrize(("text", "value"), [
    ("0", 0), ("250ms", 250), ("1.5s", 1500), ("2m", 120_000), ("1d", 86_400_000),
])
def test_durations(text: str, value: int):
    assert (value, value) == (duration_ms(text), duration_ms(duration_text(value)))


@pytest.mark.parametrize(("text", "value"), [
    ("0", 0), ("100", 100), ("4KiB", 4096), ("3 gib", 3 << 30), ("1MiB", 1 << 20),
])
def test_sizes(text: str, value: int):
    assert (value, value) == (size_bytes(text), size_bytes(size_text(value)))


@pytest.mark.parametrize("name", ["message_bytes_max", "header_bytes_max", "held_bytes_max", "http_header_bytes_max"])
def test_limits_that_no_node_could_start_or_work_with_are_refused(name: str):
    for text in ("0", "1", "1023", "4GiB"):
        with pytest.raises(InvalidInput, match=f"{name.replace('_', '-')}: '{text}' is not accepted"):
            read_settings({name: text}, {})
    assert 1024 == getattr(read_settings({name: "1KiB"}, {}).settings, name)


def test_what_is_shown_can_be_read_again():
    shown = read_settings({"listen": ("unix:x",), "max_staleness": "90s", "store": "d"}, {}).shown()
    again = read_settings({name: value for name, value in shown.items() if value is not None}, {})
    assert read_settings({"listen": ("unix:x",), "max_staleness": "90s", "store": "d"}, {}).settings == again.settings


def test_passwords_in_addresses_are_not_shown():
    assert "hunter2" not in str(read_settings({"store": "s3://me:hunter2@bucket"}, {}).shown())


def test_every_default_would_be_accepted_as_a_value():
    for each in fields():
        if each.default is not None:
            items = each.default if setting_of(each).many else [each.default]
            assert all(isinstance(item, int | str) for item in items)
    assert Settings().threads == 1


def test_the_page_names_every_default():
    page = (Path(__file__).parents[2] / "docs" / "operating.md").read_text()
    shown = read_settings({}, {}).shown()
    for each in fields():
        value = shown[each.name]
        text = ", ".join(value) if isinstance(value, list) else "" if value is None else str(value)
        assert f"| `{each.name}` | {text} | {setting_of(each).help} |" in page


def test_of_several_values_the_wrong_one_is_named():
    with pytest.raises(InvalidInput, match=r"^--listen: 'foo' is not accepted: write HOST:PORT"):
        read_settings({"listen": ("127.0.0.1:1", "foo")}, {})


@pytest.mark.parametrize("text", ["", "x y", "x:y", "-x", "x" * 65, "X-Forwarded-For", "x_y", "\u00e9"])
def test_the_header_of_an_address_is_a_header_that_says_one(text: str):
    with pytest.raises(InvalidInput):
        read_settings({"http_address_header": text}, {})


def test_the_header_of_an_address_may_be_any_other():
    assert "X-Real-IP" == read_settings({"http_address_header": "X-Real-IP"}, {}).settings.http_address_header
    assert read_settings({}, {}).settings.http_address_header is None
