"""Available memory, read from files as Linux writes them; a limit of the container counts if it is lower."""

from pathlib import Path

import pytest

from export.plans.memory import available_memory


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A machine with 8 GiB available."""
    write(tmp_path / "proc/meminfo", "MemTotal:       16777216 kB\nMemAvailable:    8388608 kB\n")
    return tmp_path


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def limit_v2(folder: Path, limit: str, usage: int, cache: int) -> None:
    write(folder / "memory.max", f"{limit}\n")
    write(folder / "memory.current", f"{usage}\n")
    write(folder / "memory.stat", f"anon 1\ninactive_file {cache}\nactive_file 7\n")


def test_a_machine_without_limits(root: Path) -> None:
    write(root / "proc/self/cgroup", "0::/user.slice\n")
    limit_v2(root / "sys/fs/cgroup/user.slice", "max", 5, 0)
    assert available_memory(root) == 8 * 2**30


def test_the_tightest_limit_on_the_way_up_counts(root: Path) -> None:
    write(root / "proc/self/cgroup", "0::/pod/container\n")
    limit_v2(root / "sys/fs/cgroup/pod", "4000", 1500, 500)
    limit_v2(root / "sys/fs/cgroup/pod/container", "9000", 1000, 0)
    assert available_memory(root) == 3000  # file cache can be dropped


def test_version_1_and_a_path_of_the_host(root: Path) -> None:
    write(root / "proc/self/cgroup", "5:cpu,cpuacct:/docker/1f\n4:memory:/docker/1f\n1:name=systemd:/\n")
    mount = root / "sys/fs/cgroup/memory"
    write(mount / "memory.limit_in_bytes", "1000\n")
    write(mount / "memory.usage_in_bytes", "700\n")
    write(mount / "memory.stat", "inactive_file 1\ntotal_inactive_file 50\n")
    assert available_memory(root) == 350


def test_no_proc(tmp_path: Path) -> None:
    assert available_memory(tmp_path) is None


def test_this_machine() -> None:
    available = available_memory()
    assert available is not None and 0 < available < 2**50
