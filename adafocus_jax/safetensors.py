"""Named arrays in one file of the safetensors format, which many libraries read: a header in JSON, then the bytes."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from adafocus_jax.errors import UserError

DTYPES: dict[str, Any] = {"F64": np.float64, "F32": np.float32, "F16": np.float16, "BF16": jnp.bfloat16}
DTYPES |= {"I64": np.int64, "I32": np.int32, "U32": np.uint32, "U8": np.uint8, "BOOL": np.bool_}
"""Dtypes by the names that the format has for them."""
_NAMES = {np.dtype(dtype): name for name, dtype in DTYPES.items()}
_LENGTH_BYTES = 8


def write_arrays(path: str | os.PathLike[str], arrays: Mapping[str, np.ndarray]) -> None:
    """Writes arrays, each of one of ``DTYPES``."""
    header, offset = {}, 0
    for name, array in arrays.items():
        end = offset + array.nbytes
        header[name] = {
            "dtype": _NAMES[array.dtype],
            "shape": list(array.shape),
            "data_offsets": [offset, end],
        }
        offset = end
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % _LENGTH_BYTES)
    with open(path, "wb") as file:
        file.write(len(text).to_bytes(_LENGTH_BYTES, "little") + text)
        for array in arrays.values():
            file.write(np.ascontiguousarray(array).tobytes())


def read_arrays(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """The arrays of a file by name, each of its own dtype.

    Raises:
      UserError: the file is damaged, cut short, or of another format.
    """
    data = memoryview(Path(path).read_bytes())
    start = _LENGTH_BYTES + int.from_bytes(data[:_LENGTH_BYTES], "little")
    try:
        header = json.loads(bytes(data[_LENGTH_BYTES:start]))
        header.pop("__metadata__", None)
        return {name: _array(data[start:], **entry) for name, entry in header.items()}
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        reason = " ".join(str(error).split())[:100]
        raise UserError(
            f"{path} is damaged, cut short, or no safetensors file ({reason}): fetch it again"
        ) from error


def _array(data: memoryview, dtype: str, shape: list[int], data_offsets: tuple[int, int]) -> np.ndarray:
    begin, end = data_offsets
    return np.frombuffer(data[begin:end], DTYPES[dtype]).reshape(shape)
