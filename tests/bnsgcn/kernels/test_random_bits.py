"""The counter-based generator: what it computes, and that it looks random along every axis."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from bnsgcn.kernels import Kernels, Mask, random_bits

MASK32, MASK64 = (1 << 32) - 1, (1 << 64) - 1


def by_hand(key: int, node_id: int, column: int) -> int:
    """The function as random.py's head describes it, in plain integers."""
    z = (key + node_id * 0x9E3779B97F4A7C15) & MASK64
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK64
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK64
    z ^= z >> 31
    low, high = z & MASK32, z >> 32
    block, lane = divmod(column, 32)
    word = (low + (16 * block + lane % 16 + 1) * 0x9E3779B9) & MASK32
    word = ((word ^ (word >> 16)) * 0x7FEB352D) & MASK32
    word ^= high
    word = ((word ^ (word >> 15)) * 0x846CA68B) & MASK32
    word ^= word >> 16
    return word >> 16 if lane >= 16 else word & 0xFFFF


@pytest.mark.parametrize("seed", [0, 1, 2**63])
def test_equals_the_description(seed: int) -> None:
    key = random_bits.key(seed, 3, 1, random_bits.Stream.DROPOUT)
    ids = torch.tensor([0, 1, 77, 2**31, 2**40 + 5])
    bits = random_bits.bits(key, ids, 70)
    assert bits.tolist() == [[by_hand(key, int(node), column) for column in range(70)] for node in ids]


def test_fewer_columns_are_the_first_ones() -> None:
    ids = torch.arange(9)
    assert torch.equal(random_bits.bits(5, ids, 100)[:, :37], random_bits.bits(5, ids, 37))


def test_compiled_masks_are_the_same_bits(compiled: Kernels) -> None:
    for columns in (1, 16, 31, 32, 33, 64, 100, 128):
        ids = torch.randint(0, 2**40, (300,))
        kept = compiled.dropout(torch.ones(300, columns), Mask(ids, -77, 0.3)) != 0
        assert torch.equal(kept, random_bits.keep_mask(-77, ids, columns, 0.3))


def test_keys_differ_in_every_argument() -> None:
    keys = {
        random_bits.key(seed, epoch, layer, stream)
        for seed in (0, 1, 2**64 - 1)
        for epoch in range(20)
        for layer in range(5)
        for stream in random_bits.Stream
    }
    assert len(keys) == 3 * 20 * 5 * len(random_bits.Stream)
    assert all(-(2**63) <= key < 2**63 for key in keys)


@pytest.mark.parametrize("p", [0.1, 0.3, 0.5, 0.9])
def test_share_kept(p: float) -> None:
    mask = random_bits.keep_mask(random_bits.key(1, 2, 3, 0), torch.arange(50_000), 64, p)
    assert abs(float(mask.double().mean()) - (1 - p)) < 4 * math.sqrt(p * (1 - p) / mask.numel()) + 2**-16
    assert random_bits.keep_levels(p) / random_bits.LEVELS == pytest.approx(1 - p, abs=2**-17)


@pytest.mark.parametrize("p", [-0.1, 1.0, float("nan")])
def test_impossible_probabilities_are_refused(p: float) -> None:
    with pytest.raises(ValueError, match=r"must be in \[0, 1\)"):
        random_bits.keep_levels(p)


def neighbours(bits: Tensor, axis: str) -> tuple[Tensor, Tensor]:
    if axis == "columns":
        return bits[:, :-1], bits[:, 1:]
    if axis == "halves of a word":
        return bits[:, :16], bits[:, 16:32]
    if axis == "ids":
        return bits[:-1], bits[1:]
    return bits, random_bits.bits(random_bits.key(0, 1, 0, 0), torch.arange(bits.shape[0]), bits.shape[1])


@pytest.mark.parametrize("axis", ["columns", "halves of a word", "ids", "keys"])
def test_neighbours_are_uncorrelated(axis: str) -> None:
    """Correlations of values and of every single bit lie within 5 standard errors; of a copy they do not."""
    bits = random_bits.bits(random_bits.key(0, 0, 0, 0), torch.arange(20_000), 64)
    one, other = neighbours(bits, axis)
    limit = 5 / math.sqrt(one.numel())
    assert abs(correlation(one, other)) < limit
    for place in range(16):
        assert abs(correlation(one >> place & 1, other >> place & 1)) < limit
    assert abs(correlation(one, one)) > limit


def correlation(one: Tensor, other: Tensor) -> float:
    pair = torch.stack([one.double().flatten(), other.double().flatten()])
    return float(torch.corrcoef(pair)[0, 1])


def test_values_are_uniform() -> None:
    """Chi-squared of the upper and the lower byte, within 5 standard deviations of its mean."""
    bits = random_bits.bits(random_bits.key(9, 9, 9, 9), torch.arange(30_000), 64).flatten()
    for byte in (bits >> 8, bits & 255):
        counts = torch.bincount(byte, minlength=256).double()
        statistic = float(((counts - counts.mean()) ** 2 / counts.mean()).sum())
        assert abs(statistic - 255) < 5 * math.sqrt(2 * 255)


def test_rows_and_columns_keep_their_share() -> None:
    """Sums of a row and of a column of masks spread as binomials do: no node and no feature is favoured."""
    mask = random_bits.keep_mask(random_bits.key(4, 0, 0, 0), torch.arange(8_192), 512, 0.5).double()
    for axis, count in ((0, 8_192), (1, 512)):
        shares = mask.mean(axis)
        assert float(shares.var() * count * 4) == pytest.approx(1, abs=5 * math.sqrt(2 / shares.numel()))


def test_a_node_keeps_its_mask_wherever_it_is() -> None:
    ids = torch.randperm(1_000)
    mask = random_bits.keep_mask(3, ids, 40, 0.4)
    back = torch.empty_like(mask)
    back[ids] = mask
    assert torch.equal(back, random_bits.keep_mask(3, torch.arange(1_000), 40, 0.4))
