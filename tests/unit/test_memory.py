"""How much memory is left, as the kernel's files say."""

from pathlib import Path

from verifier.serving.memory import available_bytes

MIB = 1 << 20


def machine(tmp_path: Path, groups: dict[str, tuple[str, int, int]], group: str = "/a/b") -> tuple[Path, Path]:
    proc, cgroups = tmp_path / "proc", tmp_path / "cgroup"
    (proc / "self").mkdir(parents=True)
    (proc / "meminfo").write_text("MemTotal:  4096 kB\nMemAvailable:    102400 kB\n")
    (proc / "self" / "cgroup").write_text(f"0::{group}\n")
    for name, (limit, used, cache) in groups.items():
        folder = cgroups / name
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "memory.max").write_text(limit + "\n")
        (folder / "memory.current").write_text(f"{used}\n")
        (folder / "memory.stat").write_text(f"anon 1\ninactive_file {cache}\n")
    return proc, cgroups


def test_the_machine(tmp_path: Path):
    assert available_bytes(*machine(tmp_path, {})) == 100 * MIB


def test_the_tightest_group_counts(tmp_path: Path):
    groups = {"a": (str(50 * MIB), 30 * MIB, 5 * MIB), "a/b": ("max", 30 * MIB, 0)}
    assert available_bytes(*machine(tmp_path, groups)) == 25 * MIB


def test_a_container_sees_its_group_as_the_root(tmp_path: Path):
    assert available_bytes(*machine(tmp_path, {".": (str(MIB), 2 * MIB, 0)}, group="/")) == 0


def test_where_the_kernel_says_nothing_nothing_is_known(tmp_path: Path):
    assert available_bytes(tmp_path, tmp_path) is None


def test_this_machine():
    room = available_bytes()
    assert room is None or room > 0
