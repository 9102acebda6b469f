"""Runs in progress, kept on disk every few minutes, so that a process that dies costs no more than these."""

from __future__ import annotations

import hashlib
import io
import json
import logging
import time
from collections.abc import Collection, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from bench.environment import environment, name
from bench.errors import in_a_line
from bench.files import write, writing
from bench.runs import Run

if TYPE_CHECKING:
    from bench.spaces import Step

_LOG = logging.getLogger(__name__)
_HEADER = 10_000_000
"""Bytes that the first line of a checkpoint may have, which names its runs."""


class Checkpoints(NamedTuple):
    """The checkpoints in a folder of results: a file for runs that are trained together.

    Attributes:
        folder: created with the first of them.
        every: seconds from one to the next.
    """

    folder: Path
    every: float

    def path(self, runs: Sequence[Run]) -> Path:
        """Name the file of runs, which need not be there; the same in any order of them."""
        keys = " ".join(sorted(run.key for run in runs))
        return self.folder / f"{hashlib.sha256(keys.encode()).hexdigest()[:16]}.pt"

    def of(self, runs: Sequence[Run]) -> Checkpoint:
        """Return the checkpoint of runs, in this order."""
        return Checkpoint(self.path(runs), runs, self.every)

    def forget(self, runs: Sequence[Run]) -> None:
        """Delete the checkpoints of runs, or of some of them, which are done."""
        keys = {run.key for run in runs}
        for path in self.folder.glob("[!.]*.pt"):
            if keys.issuperset(_keys(path)):
                path.unlink(missing_ok=True)
        with suppress(OSError):  # it is not there, or there are others
            self.folder.rmdir()

    def groups(self, missing: Sequence[Run], done: Collection[str]) -> list[list[Run]]:
        """List runs that were in progress together, and can go on so; delete what is of runs that are done.

        Args:
            missing: runs that have no record.
            done: addresses of runs that have one.

        Returns:
            The groups.
        """
        runs, result = {run.key: run for run in missing}, []
        for path in sorted(self.folder.glob("[!.]*.pt")):
            keys = _keys(path)
            if all(key in runs for key in keys):
                result.append([runs.pop(key) for key in keys])
            if all(key in done for key in keys):
                path.unlink(missing_ok=True)
        return [group for group in result if group]


class Checkpoint:
    """A file that holds runs in progress: a line of JSON that names them, and tensors that torch has written.

    Args:
        path: the file.
        runs: the runs, in the order in which they are trained.
        every: seconds from one writing to the next.
    """

    def __init__(self, path: Path, runs: Sequence[Run], every: float) -> None:
        self.path, self.runs, self.every, self.last = path, runs, every, time.monotonic()

    @property
    def due(self) -> bool:
        """Whether it is time to save."""
        return time.monotonic() - self.last >= self.every

    def save(self, state: dict[str, Any], device: Any) -> None:
        """Write the state of the runs, whole or not at all; where that fails, say so.

        Args:
            state: tensors, numbers, texts, None, and lists and dicts of these.
            device: where it is trained.
        """
        try:
            body = _packed(state)
            header = {"runs": [run.key for run in self.runs], "environment": _here(device), "digest": _hash(body)}
            with writing(self.path.parent):
                write(self.path, json.dumps(header).encode() + b"\n" + body)
        except Exception as error:  # the folder is full, or what a foreign rule keeps cannot be written
            _LOG.warning("no checkpoint of %s: %s", self.runs[0].name, in_a_line(error))
        self.last = time.monotonic()

    def load(self, device: Any) -> dict[str, Any] | None:
        """Read the state of the runs.

        Args:
            device: where it is trained.

        Returns:
            What was saved; None, if there is nothing, or nothing that would be continued bit for bit.
        """
        try:
            header, _, body = self.path.read_bytes().partition(b"\n")
            told = json.loads(header)
            if told["environment"] != _here(device) or told["runs"] != [run.key for run in self.runs]:
                _LOG.warning("%s was made elsewhere, or by other code; its runs begin anew", self.path)
                return None
            state = _unpacked(body, told["digest"], device)
        except FileNotFoundError:
            return None
        except Exception as error:  # it is damaged, or of a foreign rule
            _LOG.warning("%s cannot be read: %s; its runs begin anew", self.path, in_a_line(error))
            return None
        count = f"{len(self.runs)} run{'s' * (len(self.runs) != 1)}"
        _LOG.warning("%s of %s: going on at update %d", count, self.runs[0].name, state["update"])
        return state


def _packed(state: dict[str, Any]) -> bytes:
    import torch

    buffer = io.BytesIO()
    torch.save(state, buffer)
    return buffer.getvalue()


def _unpacked(body: bytes, digest: str, device: Any) -> dict[str, Any]:
    import torch

    if digest != _hash(body):
        raise ValueError("it is not what was written")
    state: dict[str, Any] = torch.load(io.BytesIO(body), map_location=device, weights_only=True)
    return state


class Resumable(Protocol):
    """A training that can be kept and go on."""

    def go_on(self, state: dict[str, Any]) -> None:
        """Go on from a state, bit for bit."""


def resume(training: Resumable, checkpoint: Checkpoint | None, device: Any) -> None:
    """Go on where a checkpoint was made, if there is one."""
    state = None if checkpoint is None else checkpoint.load(device)
    if state is not None:
        training.go_on(state)


def kept_of(step: Step, device: Any) -> dict[str, Any]:
    """Return the state of an optimizer, and of the random numbers that a task or a rule may draw."""
    import torch

    draws = torch.cuda.get_rng_state(device) if device.type == "cuda" else None
    return {"optimizer": step.optimizer.state_dict(), "random": [torch.get_rng_state(), draws]}


def put_back(state: dict[str, Any], step: Step, device: Any) -> None:
    """Put back what :func:`kept_of` returned."""
    import torch

    step.optimizer.load_state_dict(state["optimizer"])
    draws, own = state["random"]
    torch.set_rng_state(draws.cpu())
    if own is not None:
        torch.cuda.set_rng_state(own.cpu(), device)


def _here(device: Any) -> dict[str, Any]:
    """Describe what must be alike, so that training goes on bit for bit."""
    return environment() | {"device": name(device)}


def _keys(path: Path) -> list[str]:
    """Read which runs a checkpoint is of; none, if it is damaged."""
    try:
        with path.open("rb") as file:
            return [str(key) for key in json.loads(file.readline(_HEADER))["runs"]]
    except (OSError, ValueError, KeyError, TypeError):
        return []


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
