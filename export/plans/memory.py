"""How much memory this process may still take: the machine's, or its container's if that is less."""

import ctypes
import gc
import sys
from pathlib import Path

ROOT = Path("/")
WAYS_OUT = "end other programs, raise the container's limit or build on a larger machine"  # where it is too little


def available_memory(root: Path = ROOT) -> int | None:
    """Bytes, or None on a system without Linux's /proc."""
    try:
        machine = _meminfo((root / "proc/meminfo").read_text())
    except FileNotFoundError:
        return None
    return min([machine, *_left_in_groups(root)])


def release_memory() -> None:
    """Give back what is no longer used: glibc alone keeps gigabytes of freed weights for this process's next ones."""
    gc.collect()
    if sys.platform == "linux" and hasattr(libc := ctypes.CDLL(None), "malloc_trim"):  # musl has none
        libc.malloc_trim(0)


def gigabytes(count: int) -> str:
    return f"{count / 1e9:.1f} GB"


def _meminfo(text: str) -> int:
    line = next(line for line in text.splitlines() if line.startswith("MemAvailable:"))
    return int(line.split()[1]) * 1024


def _left_in_groups(root: Path) -> list[int]:
    """What is left under each limit of the process's control group, version 1 or 2, and of the groups around it."""
    left = []
    for line in (root / "proc/self/cgroup").read_text().splitlines():
        _, controllers, group = line.split(":", 2)
        if controllers == "":
            mount, limit, usage, cache = root / "sys/fs/cgroup", "memory.max", "memory.current", "inactive_file"
        elif "memory" in controllers.split(","):
            mount, limit, usage = root / "sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes"
            cache = "total_inactive_file"
        else:
            continue
        for folder in _upwards(mount, mount / group.lstrip("/")):
            left += _left(folder / limit, folder / usage, folder / "memory.stat", cache)
    return left


def _upwards(mount: Path, folder: Path) -> list[Path]:
    """The folder and those around it, up to the mount; in a container the path may be the host's."""
    return [path for path in (folder, *folder.parents) if path.is_relative_to(mount) and path.is_dir()]


def _left(limit: Path, usage: Path, stat: Path, cache: str) -> list[int]:
    """Limit - usage, in which file cache that can be dropped does not count; empty where there is no limit."""
    if not limit.is_file() or (most := limit.read_text().strip()) == "max":
        return []
    droppable = next((int(line.split()[1]) for line in stat.read_text().splitlines() if line.split()[0] == cache), 0)
    return [int(most) - int(usage.read_text()) + droppable]
