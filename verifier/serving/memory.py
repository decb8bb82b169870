"""How much memory a keyring may take before the machine, or the container, is in trouble."""

from pathlib import Path

PROC = Path("/proc")
CGROUPS = Path("/sys/fs/cgroup")


def available_bytes(proc: Path = PROC, cgroups: Path = CGROUPS) -> int | None:
    """Return the memory that can still be taken, in bytes; None where the kernel does not tell.

    The least of ``MemAvailable`` and the room in every control group (v2) that this process lives in. File cache that
    a group could give back counts as room.
    """
    rooms = [room for room in (_system_bytes(proc), _group_bytes(proc, cgroups)) if room is not None]
    return min(rooms, default=None)


def _system_bytes(proc: Path) -> int | None:
    try:
        for line in (proc / "meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError, IndexError):
        pass
    return None


def _group_bytes(proc: Path, cgroups: Path) -> int | None:
    try:
        lines = (proc / "self/cgroup").read_text().splitlines()
    except OSError:
        return None
    group = next((line[3:].lstrip("/") for line in lines if line.startswith("0::")), None)
    if group is None:
        return None
    folder = cgroups / group
    rooms = []
    # In a container the path is often "/" or lies outside what is mounted: then only the mounted root is read.
    for level in (folder, *folder.parents):
        room = _room_bytes(level)
        if room is not None:
            rooms.append(room)
        if level == cgroups:
            break
    return min(rooms, default=None)


def _room_bytes(group: Path) -> int | None:
    """Return what one control group has left; None when it has no limit or does not exist."""
    try:
        limit = (group / "memory.max").read_text().strip()
        used = int((group / "memory.current").read_text())
        statistics = (group / "memory.stat").read_text()
    except (OSError, ValueError):
        return None
    if limit == "max":
        return None
    cache = next((int(line.split()[1]) for line in statistics.splitlines() if line.startswith("inactive_file ")), 0)
    return max(0, int(limit) - used + cache)
