"""Low-rank updates: a matrix that two thin ones make up, and what may be computed with them. numpy only.

A change D of a weight (rows x cols) is sent as B (rows x r) and A (r x cols) with B A near D; vectors stay
dense. Source: LoRA (arXiv 2106.09685) as EMS-FL (arXiv 2602.19485) uploads it, section 5 of our notes.

- A product is summed over the rank in its order, B[:, 0] A[0, :] + B[:, 1] A[1, :] + ..., each operation one
  float64 operation per element. So it is the same to the last bit on every machine, whole or in pieces, which
  a product of a linear algebra library is not. (float32 times float32 is exact in float64.)
- Aggregation is on products, W + sum_m w_m B_m A_m. The product of the mean factors is another matrix
  (FedEx-LoRA, arXiv 2410.09432); factors of different bases cannot be averaged at all.
- What a rank leaves out is not lost: who sends keeps it for the next time (`compress`), and so does who
  recompresses a sum (`recompress`).

Factors come from LAPACK in float64: signs are fixed here, the last bits are those of one library on one kind
of processor, with one thread. So they are made in one place and sent, never made elsewhere to be compared.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import numpy as np

from orbitrain.learning.tensors import Spec, TensorError, check_same, shown

Values: TypeAlias = np.ndarray[Any, np.dtype[Any]]

LORA_B: Final = ".lora_b"
LORA_A: Final = ".lora_a"
"""Ends of the names under which the factors of a tensor are stored."""

RANK_MAX: Final = 256
"""Highest rank of factors, since a peer's update costs a satellite time by its rank; usual are 4 to 64."""

FACTOR: Final = np.dtype(np.float32)
"""Of what factors are, whatever the weight is."""


@dataclass(frozen=True, slots=True, eq=False)
class Factors:
    """Two thin matrices that stand for their product."""

    b: Values
    """(rows, r)."""

    a: Values
    """(r, cols)."""

    @property
    def rank(self) -> int:
        """Columns of `b`; the product's own rank may be lower."""
        return int(self.b.shape[1])

    def product(self) -> Values:
        """(rows, cols) in float64, summed in the order of the rank."""
        total = np.zeros((self.b.shape[0], self.a.shape[1]))
        add_product(total, self.b, self.a)
        return total


def add_product(total: Values, b: Values, rows_of_a: Iterable[Values]) -> None:
    """Add columns of `b` times rows of A to `total` (float64), one after the other."""
    term = np.empty_like(total)
    for column, row in zip(b.T, rows_of_a, strict=True):
        np.multiply(column[:, None], row[None, :], out=term, dtype=np.float64)
        total += term


# --- factors of one matrix ----------------------------------------------------------------------------------


def factor(delta: Values, rank: int) -> Factors:
    """Return the float32 factors nearest to `delta` (rows, cols): the `rank` largest singular values.

    B has the left singular vectors and A the right ones, each times the root of its singular value; in a
    column of B the first of its largest entries is positive. The rank is lower where a side is shorter.
    Raises TensorError for a matrix whose factors cannot be found.
    """
    left, values, right = _singular(delta.astype(np.float64))
    return _factors(left[:, :rank], values[:rank], right[:rank])


def compress(delta: Values, residual: Values | None, rank: int) -> tuple[Factors, Values]:
    """Factor with error feedback: (B, A of delta + residual, residual' = delta + residual - B A), in float64.

    Over any number of times the products that were sent and the last residual add up to all deltas. Raises
    TensorError as `factor` does.
    """
    wanted = delta.astype(np.float64) if residual is None else delta.astype(np.float64) + residual
    sent = factor(wanted, rank)
    return sent, wanted - sent.product()


def exact(matrix: Values) -> Factors:
    """Return factors whose product is the matrix: it and an identity of its shorter side, of its dtype."""
    rows, cols = matrix.shape
    if rows <= cols:
        return Factors(np.eye(rows, dtype=matrix.dtype), matrix)
    return Factors(matrix, np.eye(cols, dtype=matrix.dtype))


def padded(factors: Factors, rank: int) -> Factors:
    """Return the same product as factors of exactly `rank`, which must be no lower: zeros at the end."""
    more = rank - factors.rank
    return Factors(np.pad(factors.b, ((0, 0), (0, more))), np.pad(factors.a, ((0, more), (0, 0))))


def _singular(matrix: Values) -> tuple[Values, Values, Values]:
    try:
        left, values, right = np.linalg.svd(matrix, full_matrices=False)
    except np.linalg.LinAlgError as error:
        raise TensorError(f"a matrix {list(matrix.shape)} has no factors: {error}") from error
    return left, values, right


def _factors(left: Values, values: Values, right: Values) -> Factors:
    if len(values):
        largest = np.abs(left).argmax(axis=0)
        signs = np.where(left[largest, np.arange(len(values))] < 0.0, -1.0, 1.0)
        left, right = left * signs, right * signs[:, None]
    roots = np.sqrt(values)
    with np.errstate(over="ignore"):  # whoever stores them checks that they are finite
        return Factors((left * roots).astype(FACTOR), (right * roots[:, None]).astype(FACTOR))


# --- sums of products ---------------------------------------------------------------------------------------


def aggregate_products(weight: Values, parts: Sequence[tuple[float, Factors]]) -> Values:
    """Return W + sum_m w_m B_m A_m: `(W + (0.0 + w_0 P_0 + w_1 P_1 + ...)).astype(W.dtype)`, in float64."""
    total = np.zeros(weight.shape)
    for share, factors in parts:
        total += share * factors.product()
    result: Values = (weight.astype(np.float64) + total).astype(weight.dtype)
    return result


def recompress(parts: Sequence[tuple[float, Factors]], rank: int) -> tuple[Factors, Factors]:
    """Return sum_m w_m B_m A_m as (what is served, of at most `rank`; the rest), both float32.

    The two add up to the sum, to float32's precision, and the first is the nearest of its rank. The rest
    stays with who recompresses, as one more part the next time. Its rank grows by what the parts have more
    than is served, merge after merge, until both together have the shorter side's; it is 0 where nothing is
    left. No matrix of (rows, cols) is made while the parts' ranks together are below the shorter side: QR of
    both sides, then the singular values of a core that is no larger than either. Raises ValueError for no
    parts, and TensorError as `factor` does.
    """
    left, core_left = np.linalg.qr(np.concatenate([w * f.b.astype(np.float64) for w, f in parts], axis=1))
    right, core_right = np.linalg.qr(np.concatenate([f.a.astype(np.float64) for _, f in parts], axis=0).T)
    inner_left, values, inner_right = _singular(core_left @ core_right.T)
    left, right = left @ inner_left, inner_right @ right.T
    # Singular values below what float64 tells from zero: the parts were not of full rank.
    count = int((values > values.max(initial=0.0) * len(values) * np.finfo(np.float64).eps).sum())
    cut = min(rank, len(values))
    served = _factors(left[:, :cut], values[:cut], right[:cut])
    return served, _factors(left[:, cut:count], values[cut:count], right[cut:count])


# --- training in low-rank form ------------------------------------------------------------------------------


def start(shape: tuple[int, int], rank: int, seed: int) -> Factors:
    """Return factors to be trained while their weight is frozen: A drawn, B zero, so nothing changes yet.

    A is normal, as LoRA has it; of variance 1/cols (our choice), so that A x is of the size of x's entries.
    """
    rows, cols = shape
    drawn = np.random.default_rng(seed).normal(0.0, cols**-0.5, (rank, cols))
    return Factors(np.zeros((rows, rank), FACTOR), drawn.astype(FACTOR))


def outputs(inputs: Values, weight: Values, factors: Factors) -> Values:
    """Return x (W + B A)^T for inputs x (n, cols), as `torch.nn.Linear` is laid out; B A is not made."""
    result: Values = inputs @ weight.T + (inputs @ factors.a.T) @ factors.b.T
    return result


def gradients(inputs: Values, errors: Values, factors: Factors) -> Factors:
    """Return the gradients by B and A from `errors` (n, rows), those by `outputs`; none is (rows, cols)."""
    return Factors(errors.T @ (inputs @ factors.a.T), (errors @ factors.b).T @ inputs)


def collapse(weight: Values, factors: Factors) -> Values:
    """Return W + B A as one weight of W's dtype, rounded once."""
    return aggregate_products(weight, [(1.0, factors)])


# --- the tensors of an update -------------------------------------------------------------------------------


def is_factored(shape: tuple[int, ...], rank: int | None) -> bool:
    """Whether a tensor goes as factors: a matrix for which these are fewer numbers than itself."""
    if rank is None or len(shape) != 2:
        return False
    rows, cols = shape
    return rank * (rows + cols) < rows * cols


def update_specs(base: Mapping[str, Spec], rank: int | None) -> dict[str, Spec]:
    """Return the tensors of an update of `base`, with factors of `rank` where they are smaller; None: dense.

    Raises TensorError for a base that updates cannot be made for.
    """
    check_base(base)
    specs: dict[str, Spec] = {}
    for name, spec in base.items():
        if rank is not None and is_factored(spec.shape, rank):
            specs.update(factor_specs(name, spec, rank))
        else:
            specs[name] = spec
    return specs


def data_bytes(specs: Mapping[str, Spec]) -> int:
    """Bytes of these tensors' values; a file has its header besides, some 100 bytes a tensor."""
    return sum(spec.count * spec.dtype.itemsize for spec in specs.values())


def update_ranks(update: Mapping[str, Spec], base: Mapping[str, Spec]) -> dict[str, int | None]:
    """Return for each tensor of `base` the rank of the factors by which it is updated; None: dense.

    Raises TensorError unless the update has each tensor of the base once: dense, like the base's, or as
    float32 factors of a rank from 1 to the shorter side, and to `RANK_MAX`.
    """
    return _ranks(update, base, base, 1, RANK_MAX)


def residual_specs(base: Mapping[str, Spec]) -> dict[str, Spec]:
    """Return the tensors of a dense residual: of the base's dtype, but at least float32."""
    return {name: Spec(np.promote_types(spec.dtype, np.float32), spec.shape) for name, spec in base.items()}


def residual_ranks(residual: Mapping[str, Spec], base: Mapping[str, Spec]) -> dict[str, int | None]:
    """Return as `update_ranks` does the ranks of what former merges left out.

    Raises TensorError unless the residual has each tensor of the base once: dense, as `residual_specs`, or as
    float32 factors of a rank from 0 (nothing is left) to the shorter side.
    """
    return _ranks(residual, base, residual_specs(base), 0)


def _ranks(
    found: Mapping[str, Spec],
    base: Mapping[str, Spec],
    dense: Mapping[str, Spec],
    lowest: int,
    *highest: int,
) -> dict[str, int | None]:
    check_base(base)
    ranks: dict[str, int | None] = {}
    expected: dict[str, Spec] = {}
    for name, spec in base.items():
        side = found.get(name + LORA_B)
        if name in found or side is None or len(spec.shape) != 2:
            ranks[name], expected[name] = None, dense[name]
            continue
        rank = side.shape[1] if len(side.shape) == 2 else -1
        most = min(*spec.shape, *highest)
        if not lowest <= rank <= most:
            text = f"tensor {shown(name + LORA_B)} has shape {list(side.shape)}"
            raise TensorError(f"{text}: no factor of rank {lowest} to {most}")
        ranks[name] = rank
        expected.update(factor_specs(name, spec, rank))
    check_same(found, expected)
    return ranks


def check_base(base: Mapping[str, Spec]) -> None:
    """Raise TensorError unless these are floats by names that cannot be taken for those of factors."""
    for name, spec in base.items():
        if spec.dtype.kind != "f":
            raise TensorError(f"tensor {shown(name)} has dtype {spec.dtype}: only floats are trained")
        if name.endswith((LORA_B, LORA_A)):
            raise TensorError(f"tensor {shown(name)} is named as a factor is")


def factor_specs(name: str, spec: Spec, rank: int) -> dict[str, Spec]:
    """Return the two tensors that stand for one."""
    rows, cols = spec.shape
    return {name + LORA_B: Spec(FACTOR, (rows, rank)), name + LORA_A: Spec(FACTOR, (rank, cols))}
