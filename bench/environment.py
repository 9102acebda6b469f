"""Where a record was made."""

from __future__ import annotations

import functools
import platform
import subprocess
from pathlib import Path


@functools.cache
def environment() -> dict[str, str | int | bool]:
    """Describe machine, versions and commit, the same for the whole process."""
    import torch

    import pathrnn
    from bench.registry import plugins

    return {
        "commit": _git("rev-parse", "HEAD"),
        "dirty": bool(_git("status", "--porcelain", "--untracked-files=no")),
        "cpu": _cpu(),
        "kernels": torch.backends.cpu.get_cpu_capability(),
        "platform": platform.platform(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "pathrnn": pathrnn.__version__,
        "threads": torch.get_num_threads(),
        "device": "cpu",
        "plugins": ", ".join(plugins()),
    }


def _git(*arguments: str) -> str:
    try:
        command = ["git", "-C", str(Path(__file__).parent), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next(
        (line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.processor()
    )
