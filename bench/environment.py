"""Where a record was made."""

from __future__ import annotations

import functools
import hashlib
import platform
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

MACHINE = ("cpu", "device", "threads", "torch", "python")
"""Keys of an environment that must be alike where times, or the last bits of results, are compared."""


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
        "rounding": _rounding(),
        "platform": platform.platform(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "pathrnn": pathrnn.__version__,
        "threads": torch.get_num_threads(),
        "device": "cpu",
        "plugins": ", ".join(plugins()),
    }


@functools.cache
def sources(modules: tuple[str, ...] = ()) -> str:
    """Hash the code of this project, and of modules that are imported."""
    found = find_spec("pathrnn")
    folders = [Path(__file__).parent, *map(Path, (found and found.submodule_search_locations) or ())]
    files = [path for folder in folders for path in sorted(folder.rglob("*.py"))]
    files += [Path(str(sys.modules[each].__file__)) for each in modules]
    digest = hashlib.sha256()
    for path in files:
        digest.update(path.name.encode() + hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()[:16]


def name(device: torch.device) -> str:
    """Name a device in a record: ``"cpu"``, or what the GPU calls itself."""
    import torch

    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def _rounding() -> str:
    """Hash the gradients of fixed networks: names and versions do not tell by which kernels sums are rounded."""
    import torch

    digest = hashlib.sha256()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for kind in (torch.nn.RNN, torch.nn.GRU, torch.nn.LSTM):
            layer = kind(28, 128)
            loss = layer(torch.randn(28, 128, 28))[0].log_softmax(-1).square().mean()
            for gradient in torch.autograd.grad(loss, list(layer.parameters())):
                digest.update(gradient.numpy().tobytes())
    return digest.hexdigest()[:16]


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
