"""A plug-in with an optimizer that fails at the rate 0.1 in path space, in the way that a variable asks for."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

import torch

from bench.registry import register


class Faulty(torch.optim.SGD):
    """SGD, but for FAULT: segfault, hang, raise, or the path of a file, which it makes before it is killed once."""

    def step(self, closure: Any = None) -> Any:
        fault = os.environ.get("FAULT", "")
        if fault and self.param_groups[0]["lr"] == 0.1:
            if fault == "segfault":
                print("about to fall over", flush=True)
                os.kill(os.getpid(), signal.SIGSEGV)
            if fault == "hang":
                time.sleep(1_000)
            if fault == "raise":
                raise RuntimeError("a bug in my code")
            if not Path(fault).exists():
                Path(fault).touch()
                os.kill(os.getpid(), signal.SIGKILL)
        return super().step(closure)


register("optimizer", "Faulty", f"{__name__}:Faulty")
