"""The examples under deploy/gateways, as far as they can be checked without gateways: run by `make test`."""

import re

import pytest
import yaml

from tests.gateways.support.gateways import FILES, GATEWAYS, ROOT
from verifier._authz import FIXED_HEADERS
from verifier.server.settings import fields

FOLDERS = sorted(folder.name for folder in FILES.iterdir() if (folder / "README.md").exists())
NOT_RUN = {"istio", "envoy-gateway", "kong", "apisix"}
# Those that name each header that they pass on; the others pass on all that begin so.
NAMING = ("nginx/nginx.conf", "caddy/Caddyfile", "traefik/routes.yml", "apisix/apisix.yaml")


def test_every_gateway_is_run_by_tests_or_says_that_it_is_not():
    assert {*GATEWAYS, *NOT_RUN} == set(FOLDERS)
    page = (ROOT / "docs" / "gateways.md").read_text()
    for name in FOLDERS:
        text = (FILES / name / "README.md").read_text()
        assert (name in NOT_RUN) == ("not run here" in text), name
        assert f"deploy/gateways/{name}/README.md" in page


@pytest.mark.parametrize("file", NAMING)
def test_no_identity_header_is_left_to_the_caller(file: str):
    text = (FILES / file).read_text().lower()
    assert [] == [name for name in FIXED_HEADERS if name not in text]


@pytest.mark.parametrize("path", sorted(FILES.rglob("*.y*ml")), ids=lambda path: str(path.relative_to(FILES)))
def test_yaml_can_be_read_and_says_nothing_twice(path):
    class Once(yaml.SafeLoader):
        pass

    def mapping(loader: yaml.SafeLoader, node: yaml.MappingNode) -> dict:
        keys = [loader.construct_object(key) for key, _ in node.value]
        assert len(keys) == len(set(keys)), f"{keys} at {node.start_mark}"
        return {loader.construct_object(key): loader.construct_object(value, deep=True) for key, value in node.value}

    Once.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, mapping)
    assert all(yaml.load_all(path.read_text(), Once))


def test_options_and_settings_that_pages_name_exist():
    names = {field.name for field in fields()}
    pages = [ROOT / "docs" / "gateways.md", *FILES.rglob("*.md"), *FILES.rglob("*.conf"), FILES / "caddy" / "Caddyfile"]
    for page in pages:
        text = page.read_text()
        said = {option.replace("-", "_") for option in re.findall(r"--((?:authz|http)-[a-z-]+)", text)}
        said |= set(re.findall(r"`((?:authz|http)_[a-z_]+)", text)) - {"http_auth_request_module"}
        assert set() == said - names, page


def test_those_that_refuse_by_default_say_so():
    """A gateway that fails open by a slip of an example would let everybody in when it matters most."""
    envoy = yaml.safe_load((FILES / "envoy" / "envoy.yaml").read_text())
    assert ["failure_mode_allow: false"] == re.findall(r"failure_mode_allow: \w+", yaml.dump(envoy))
    mesh = yaml.safe_load((FILES / "istio" / "mesh.yaml").read_text())
    assert mesh["extensionProviders"][0]["envoyExtAuthzGrpc"]["failOpen"] is False
    policies = list(yaml.safe_load_all((FILES / "envoy-gateway" / "policies.yaml").read_text()))
    asking = [policy["spec"]["extAuth"] for policy in policies if policy["kind"] == "SecurityPolicy"]
    assert [(False, 503)] * 2 == [(each["failOpen"], each["statusOnError"]) for each in asking]
    apisix = yaml.safe_load((FILES / "apisix" / "apisix.yaml").read_text())
    forward = [plugins["plugins"]["forward-auth"] for plugins in apisix["plugin_configs"]]
    assert [(False, 503)] * 2 == [(each["allow_degradation"], each["status_on_error"]) for each in forward]
