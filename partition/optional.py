"""Packages that one source or one picture needs and everything else does without.

They are imported when they are asked for, never before.
"""

from __future__ import annotations

import importlib
import os
from typing import Any

from partition.errors import UserError, one_line

INSTALL = {
    "dgl": "pip install dgl==1.1.3 (wheels for Linux on x86-64 and Python up to 3.11), "
    "or save the graph as an archive elsewhere and name it npz:FILE",
    "jinja2": "pip install 'bnsgcn[report]'",
    "matplotlib": "pip install 'bnsgcn[report]'",
    "mlflow": "pip install 'bnsgcn[mlflow]'",
    "mtkahypar": "pip install 'bnsgcn[kahypar]' (wheels for Linux, macOS and Windows), or use --method metis",
    "ogb": "pip install ogb",
    "pandas": "pip install pandas (it comes with ogb)",
    "pyarrow": "pip install 'bnsgcn[parquet]', or use --format npy",
    "tensorboard": "pip install 'bnsgcn[tensorboard]'",
    "wandb": "pip install 'bnsgcn[wandb]'",
    "safetensors": "pip install 'bnsgcn[export]', or use FILE.pt2",
    "torch": "pip install torch",
    "torch_geometric": "pip install 'bnsgcn[pyg]'",
}
"""What puts a package right where it cannot be imported."""


def optional(module: str) -> Any:
    """The module of that name.

    Raises:
        UserError: its package is absent or does not work here; the message says what to install.
    """
    package = module.partition(".")[0]
    if package == "dgl":
        os.environ.setdefault("DGLBACKEND", "pytorch")
    try:
        return importlib.import_module(module)
    except Exception as error:  # a package that is there may fail in its own ways, for example at a library
        raise UserError(f"{package} cannot be imported ({one_line(error)}); {INSTALL[package]}") from error
