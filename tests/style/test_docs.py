"""What users can set, call or watch is documented, or one of these tests fails."""

import importlib.util
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from tests.style._sources import ROOT, python_files, relative, text_files
from verifier.admin.settings import fields as control_fields
from verifier.server.settings import fields

OPERATING = ROOT / "docs" / "operating.md"
CONTROL_PLANE = ROOT / "docs" / "control-plane.md"


def load_script(name: str) -> ModuleType:
    """Import a file of scripts/, which is no package."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "scripts" / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_cli_reference_is_current():
    rendered = load_script("cli_reference").render()
    assert rendered == (ROOT / "docs" / "cli.md").read_text(), "run: make docs"


def metric_names(room: str = "verifier/server") -> set[str]:
    """Collect the names that the code of the node, or of another room, gives to metrics."""
    names: set[str] = set()
    for path in python_files(room):
        names.update(re.findall(r'["\'](verifier_[a-z0-9_]+)["\']', path.read_text()))
    return names


def test_every_metric_is_documented():
    page = OPERATING.read_text()
    assert metric_names(), "no metric was found: has their place in the code moved?"
    assert set() == {name for name in metric_names() if name not in page}


def test_every_setting_is_documented():
    page = OPERATING.read_text()
    names = [field.name for field in fields()]
    assert [] == [name for name in names if not re.search(rf"\b{name}\b", page)]


def test_every_metric_and_setting_of_the_control_plane_is_documented():
    page = CONTROL_PLANE.read_text()
    code = (ROOT / "verifier" / "admin" / "metrics.py").read_text()
    metrics = {name for name in metric_names("verifier/admin") if name.startswith("verifier_control_")}
    counters = {f"verifier_control_{name}_total" for name in re.findall(r'_counter\(\s*"([a-z_]+)"', code)}
    assert len(metrics) > 5 < len(counters), "no metric was found: has their place in the code moved?"
    assert set() == {name for name in metrics | counters if name not in page}
    assert [] == [field.name for field in control_fields() if f"`{field.name}`" not in page]


def test_every_event_of_the_control_plane_is_documented():
    page = CONTROL_PLANE.read_text()
    kinds: set[str] = set()
    for path in python_files("verifier/control"):
        if path.stem in {"moments", "due"}:
            kinds.update(re.findall(r'^[A-Z_]+ = "([a-z]+\.[a-z_]+)"$', path.read_text(), re.MULTILINE))
    assert len(kinds) > 8
    assert set() == {kind for kind in kinds if f"`{kind}`" not in page}


def test_every_module_and_room_has_a_place_in_the_architecture():
    page = (ROOT / "docs" / "architecture.md").read_text()
    modules = {f"`{path.stem}`" for path in (ROOT / "ext" / "verifier").glob("_*.pyx")}
    rooms = {f"`{relative(path.parent)}/`" for path in python_files("verifier") if path.name == "__init__.py"}
    assert set() == {name for name in modules | rooms - {"`verifier/`"} if name not in page}


def test_generated_code_matches_the_proto(tmp_path: Path):
    from google.protobuf import descriptor_pb2

    from verifier.v1 import verifier_pb2

    out = tmp_path / "set.bin"
    subprocess.run(
        [sys.executable, "-m", "grpc_tools.protoc", "-I", "proto", f"--descriptor_set_out={out}",
         "verifier/v1/verifier.proto"],
        cwd=ROOT, check=True,
    )
    files = descriptor_pb2.FileDescriptorSet.FromString(out.read_bytes())
    committed = descriptor_pb2.FileDescriptorProto.FromString(verifier_pb2.DESCRIPTOR.serialized_pb)
    (current,) = [file for file in files.file if file.name == committed.name]
    # protoc keeps json_name in a descriptor set but not in generated code.
    for message in [*current.message_type, *(nested for top in current.message_type for nested in top.nested_type)]:
        for field in message.field:
            field.ClearField("json_name")
    assert current == committed, "run: make proto"


LINK = re.compile(r"\[[^\]]*\]\(([^)#\s]+)(#[^)\s]*)?\)")


@pytest.mark.parametrize("path", [path for path in text_files() if path.suffix == ".md"], ids=relative)
def test_links_between_pages_lead_somewhere(path: Path):
    targets = [target for target, _ in LINK.findall(path.read_text()) if "://" not in target]
    assert [] == [target for target in targets if not (path.parent / target).exists()]
