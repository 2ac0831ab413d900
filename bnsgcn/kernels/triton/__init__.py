"""Our kernels in Triton: every float dtype on CUDA, and on CPU tensors under Triton's interpreter.

Triton is imported with `triton_backend`, which `select` imports where it is asked for.
"""
