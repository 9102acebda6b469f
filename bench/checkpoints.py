"""Runs in progress, kept on disk every few minutes, so that a process that dies costs no more than these."""

from __future__ import annotations

import hashlib
import io
import json
import logging
import math
import time
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeVar

from bench.environment import environment, name, sources
from bench.errors import InputError, in_a_line
from bench.files import hashed, write, writing
from bench.registry import plugins
from bench.runs import Run, counted

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
        return self.folder / f"{hashed(keys.encode())}.pt"

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

    def groups(self, runs: Sequence[Run], done: Collection[str]) -> list[list[Run]]:
        """List runs that were in progress together, and can go on so.

        Args:
            runs: runs to look for.
            done: addresses of those that have a record; some of a group may have, where a process died in between.

        Returns:
            The groups.
        """
        known, result = {run.key: run for run in runs}, []
        for path in sorted(self.folder.glob("[!.]*.pt")):
            keys = _keys(path)
            if all(key in known for key in keys) and any(key not in done for key in keys):
                result.append([known.pop(key) for key in keys])
        return result


class Checkpoint:
    """A file that holds runs in progress: a line of JSON that names them, and tensors that torch has written.

    Args:
        path: the file.
        runs: the runs, in the order in which they are trained.
        every: seconds from one writing to the next.
    """

    def __init__(self, path: Path, runs: Sequence[Run], every: float) -> None:
        self.path, self.runs, self.every, self.last = path, runs, every, time.monotonic()
        self.tried = False

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
            if not self.tried:  # what cannot be read is not worth writing
                _unpacked(body, _hash(body), "cpu")
                self.tried = True
            header = {"runs": [run.key for run in self.runs], "environment": _here(device), "digest": _hash(body)}
            with writing(self.path.parent):
                write(self.path, json.dumps(header).encode() + b"\n" + body)
        except InputError as error:
            _LOG.warning("no checkpoint of %s: %s", self.runs[0].name, error)
        except Exception:  # whatever torch raises at what a foreign rule keeps
            rule, text = self.runs[0].rule.optimizer, "the state_dict of %s must hold nothing but tensors and numbers"
            _LOG.warning(f"no checkpoint of %s: {text}", self.runs[0].name, rule)
            self.every = math.inf
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
            return _unpacked(body, told["digest"], device)
        except FileNotFoundError:
            return None
        except Exception as error:  # it is damaged, or of a foreign rule
            _LOG.warning("%s cannot be read: %s; its runs begin anew", self.path, in_a_line(error))
            return None


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


T = TypeVar("T", bound=Resumable)


def resumed(make: Callable[[], T], checkpoint: Checkpoint | None, device: Any) -> T:
    """Make a training that goes on where a checkpoint was made, if there is one; else it begins anew."""
    training = make()
    state = None if checkpoint is None else checkpoint.load(device)
    if checkpoint is None or state is None:
        return training
    try:
        training.go_on(state)
    except Exception as error:  # whatever a foreign rule raises
        _LOG.warning("%s cannot be used: %s; its runs begin anew", checkpoint.path, in_a_line(error))
        return make()
    first, count = checkpoint.runs[0].name, counted(len(checkpoint.runs))
    _LOG.warning("%s of %s: going on at update %d", count, first, state["update"])
    return training


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
    alike = {key: value for key, value in environment().items() if key not in {"commit", "dirty"}}
    return alike | {"device": name(device), "sources": sources(tuple(plugins()))}


def _keys(path: Path) -> list[str]:
    """Read which runs a checkpoint is of; none, if it is damaged."""
    try:
        with path.open("rb") as file:
            return [str(key) for key in json.loads(file.readline(_HEADER))["runs"]]
    except (OSError, ValueError, KeyError, TypeError):
        return []


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
