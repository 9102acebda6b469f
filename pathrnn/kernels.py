"""The Triton kernel of :func:`pathrnn.relu_scan`: a program takes a replica and a tile of its batch through all steps.

It was checked by Triton's interpreter, which runs it on a CPU; its speed has not been measured.
"""

# mypy: disable-error-code="no-untyped-def, untyped-decorator"
# ruff: noqa: ANN001, ANN202, N803
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

_TILE = 16  # sequences per program, the fewest that a product takes: most programs, least state in each
_WHOLE = 128  # units up to which a float32 matrix fits on chip; of larger ones parts come from the cache, step by step
_PART = 32  # rows of such a part


@triton.jit
def _recurrence(
    added, matrix, gates, out, start, steps, batch, units, added_replica, added_step, added_row, added_unit,
    matrix_replica, matrix_row, matrix_column, gates_replica, out_replica, out_step,
    BACKWARD: tl.constexpr, PRECISION: tl.constexpr, TILE: tl.constexpr, WIDTH: tl.constexpr, PART: tl.constexpr,
):  # fmt: skip
    """Compute ``out <- gate(added + out before @ matrix)`` step by step; on the way back, gates are those of states."""
    replica, rows = tl.program_id(0).to(tl.int64), (tl.program_id(1) * TILE + tl.arange(0, TILE))[:, None]
    units_in, units_out = tl.arange(0, PART)[:, None], tl.arange(0, WIDTH)[None, :]
    own, place = (rows < batch) & (units_out < units), rows * units + units_out
    added += replica * added_replica + rows * added_row + units_out * added_unit
    matrix += replica * matrix_replica + units_in * matrix_row + units_out * matrix_column
    gates += replica * gates_replica + place
    out += replica * out_replica
    state = tl.load(start + replica * out_replica + place, mask=own & (not BACKWARD), other=0.0)
    whole = tl.load(matrix, mask=(units_in < units) & (units_out < units), other=0.0)
    for step in range(steps):
        total = tl.load(added, mask=own, other=0.0)
        if PART == WIDTH:
            total = tl.dot(state, whole, total, input_precision=PRECISION)
        else:  # of the matrix a part at a time, and so of the state
            for first in range(0, units, PART):
                mask = (first + units_in < units) & (units_out < units)
                part = tl.load(matrix + first * matrix_row, mask=mask, other=0.0)
                columns = first + tl.arange(0, PART)[None, :]
                mask = (rows < batch) & (columns < units) & ((step > 0) | (not BACKWARD))
                before = tl.load(out - out_step + rows * units + columns, mask=mask, other=0.0)
                total = tl.dot(before, part, total, input_precision=PRECISION)
        gate = tl.load(gates, mask=own, other=0.0) if BACKWARD else total
        state = tl.where(gate <= 0, 0.0, total)  # as in torch, what is not a number is let through
        tl.store(out + place, state, mask=own)
        added += added_step
        gates += out_step
        out += out_step
        if PART != WIDTH:
            tl.debug_barrier()  # the next step reads what other threads have written


def forward(z: Tensor, weight: Tensor, states: Tensor) -> None:
    """Fill ``h_1 .. h_T`` of ``states [R, T + 1, B, n]``, from ``z [R, T, B, n]`` of any strides, ``W [R, n, n]``."""
    if z.shape[1]:
        _launch(z, weight.mT, states[:, 1:], states[:, 1:], states[:, 0], backward=False)


def backward(grad: Tensor, weight: Tensor, states: Tensor, slopes: Tensor) -> None:
    """Fill the gradients by the preactivations, ``slopes [R, T, B, n]``, from those by the states, of any strides."""
    if grad.shape[1]:
        _launch(grad, weight, states[:, 1:], slopes, slopes[:, 0], backward=True)


def constants(units: int, backward: bool, precision: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Choose what a kernel is compiled with: its constants, and options of the compiler."""
    width = max(16, triton.next_power_of_2(units))
    part = width if width <= _WHOLE else _PART
    fixed = {"BACKWARD": backward, "PRECISION": precision, "TILE": _TILE, "WIDTH": width, "PART": part}
    return fixed, {"num_warps": 4 if width <= 64 else 8, "enable_fp_fusion": True}


def _launch(added: Tensor, matrix: Tensor, gates: Tensor, out: Tensor, start: Tensor, backward: bool) -> None:
    replicas, steps, batch, units = added.shape
    precision = "ieee" if torch.get_float32_matmul_precision() == "highest" else "tf32"
    fixed, options = constants(units, backward, precision)
    first, sign = (-1, -1) if backward else (0, 1)
    _recurrence[replicas, triton.cdiv(batch, _TILE)](
        *(added[:, first], matrix, gates[:, first], out[:, first], start, steps, batch, units),
        *(added.stride(0), sign * added.stride(1), *added.stride()[2:]),
        *(*matrix.stride(), gates.stride(0), out.stride(0), sign * out.stride(1)),
        **fixed,
        **options,
    )
