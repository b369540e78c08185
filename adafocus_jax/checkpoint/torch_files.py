"""PyTorch's checkpoint files, read without running their code: ``.pth``, ``.pth.tar``, ``.pyth``, ``.safetensors``."""

from __future__ import annotations

import logging
import pickle
import re
import warnings
from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from adafocus_jax.errors import UserError
from adafocus_jax.io import StrPath, writing
from adafocus_jax.safetensors import read_arrays

log = logging.getLogger(__name__)

CONTAINERS = ("state_dict", "model_state", "model")
"""Keys under which checkpoints keep the weights: the authors and TSM, SlowFast, torchvision's training scripts."""
SAFETENSORS = ".safetensors"
WRAPPERS = ("module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module")
"""What data parallelism, ``torch.compile`` and other wrappers put in front of the names of what they wrap."""


def read_state_dict(path: StrPath) -> dict[str, np.ndarray]:
    """The tensors of a checkpoint by name. Nothing in the file is executed. All but safetensors needs PyTorch.

    Names come without those of wrappers (``unwrap_names``), and the log says which were there.

    Raises:
      UserError: no such file, PyTorch is not installed, the file is damaged, needs code to be loaded, or holds no
        state dict.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"no such checkpoint file: {path}")
    tensors = _read_safetensors(path) if path.suffix == SAFETENSORS else _read_torch(path)
    unwrapped = unwrap_names(tensors)
    if found := sorted(
        {part for name in tensors.keys() - unwrapped for part in name.split(".") if part in WRAPPERS}
    ):
        log.info(
            "%s: names are read without those of wrappers: %s", path, ", ".join(f"{part}." for part in found)
        )
    return unwrapped


def unwrap_names(tensors: Mapping[str, Any]) -> dict[str, Any]:
    """The tensors under the names that they have without ``WRAPPERS``, in front and, for private names, anywhere.

    Raises:
      UserError: two get the same name.

    >>> list(unwrap_names({"module._orig_mod.conv1.weight": 0, "layer1._checkpoint_wrapped_module.0.weight": 0}))
    ['conv1.weight', 'layer1.0.weight']
    """
    named: dict[str, Any] = {}
    for name, tensor in tensors.items():
        parts = [part for part in name.split(".") if part not in WRAPPERS[1:]]
        while len(parts) > 1 and parts[0] in WRAPPERS:
            parts.pop(0)
        if (short := ".".join(parts)) in named:
            raise UserError(
                f"{name} is there twice, with and without the name of a wrapper: keep one of them"
            )
        named[short] = tensor
    return named


def write_state_dict(path: StrPath, tensors: Mapping[str, np.ndarray]) -> None:
    """Writes ``{"state_dict": tensors}`` as PyTorch does. Raises UserError where PyTorch is not installed."""
    torch = _import_torch()
    state_dict = {name: torch.from_numpy(np.array(array)) for name, array in tensors.items()}
    with writing(path) as partial:
        torch.save({"state_dict": state_dict}, partial)


def _import_torch() -> Any:
    try:
        import torch
    except ImportError as error:
        raise UserError(
            "PyTorch's files need PyTorch (its CPU build will do): pip install 'adafocus_jax[torch]'"
        ) from error
    return torch


def _read_torch(path: Path) -> dict[str, np.ndarray]:
    torch = _import_torch()
    scalar = np.float64(0).__reduce__()[0]  # the best accuracy is often saved as a number of NumPy
    # The flags, of which torchvision's and timm's training scripts keep a Namespace, are data alone.
    harmless = [scalar, (scalar, "numpy.core.multiarray.scalar"), np.dtype, Namespace]
    harmless += [type(np.dtype(kind)) for kind in (np.float64, np.float32, np.int64)]
    try:
        with warnings.catch_warnings(), torch.serialization.safe_globals(harmless):
            warnings.filterwarnings("ignore", "Detected pickle protocol", UserWarning)
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # zip, pickle and storage readers raise all kinds of errors
        raise _refusal(path, error) from error
    return {name: _to_numpy(tensor) for name, tensor in _weights(path, content).items()}


def _refusal(path: Path, error: Exception) -> UserError:
    """Why PyTorch would not load a file, in one line."""
    code = re.search(r"GLOBAL ([\w.]+)", str(error)) if isinstance(error, pickle.UnpicklingError) else None
    if code:
        return UserError(
            f"{path} is refused: to load it, its pickle would have to run {code[1]}; save its state_dict alone"
        )
    reason = " ".join(str(error).split())[:100] or type(error).__name__
    return UserError(f"{path} is damaged, cut short, or no PyTorch checkpoint ({reason}): fetch it again")


def _weights(path: Path, content: Any) -> dict[str, Any]:
    found = [content[key] for key in CONTAINERS if isinstance(content, dict) and key in content]
    weights = found[0] if found else content
    if isinstance(weights, dict) and weights and all(hasattr(value, "shape") for value in weights.values()):
        return weights
    keys = (
        f"its keys are {', '.join(map(str, list(content)[:5]))}" if isinstance(content, dict) else "no dict"
    )
    raise UserError(f"{path} holds no state dict, neither as such nor under {', '.join(CONTAINERS)}: {keys}")


def _to_numpy(tensor: Any) -> np.ndarray:
    tensor = tensor.detach()
    return np.asarray((tensor.float() if tensor.is_floating_point() else tensor).numpy())


def _read_safetensors(path: Path) -> dict[str, np.ndarray]:
    halves = (np.float16, jnp.bfloat16)
    return {
        name: array.astype(np.float32) if array.dtype in halves else array
        for name, array in read_arrays(path).items()
    }
