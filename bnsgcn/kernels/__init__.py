"""Sums over sparse blocks, fused elementwise passes and row packing; one interface, several backends."""

from bnsgcn.kernels.autograd import Block
from bnsgcn.kernels.csr import Csr
from bnsgcn.kernels.protocol import Kernels, LayerNorm
from bnsgcn.kernels.random_bits import Mask
from bnsgcn.kernels.select import check_bf16, describe, note_of, select

__all__ = ["Block", "Csr", "Kernels", "LayerNorm", "Mask", "check_bf16", "describe", "note_of", "select"]
