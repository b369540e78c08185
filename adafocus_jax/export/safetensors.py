"""Named arrays in one file of the safetensors format, which many libraries read: a header in JSON, then the bytes."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from adafocus_jax.errors import UserError

_TYPES = {"float32": "F32", "int32": "I32", "uint32": "U32", "uint8": "U8"}
_LENGTH_BYTES = 8


def write_arrays(path: str | os.PathLike[str], arrays: Mapping[str, np.ndarray]) -> None:
    """Writes arrays of float32, int32, uint32 or uint8."""
    header, offset = {}, 0
    for name, array in arrays.items():
        end = offset + array.nbytes
        header[name] = {
            "dtype": _TYPES[array.dtype.name],
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
    """What ``write_arrays`` wrote. Raises UserError for a damaged file."""
    content = Path(path).read_bytes()
    try:
        start = _LENGTH_BYTES + int.from_bytes(content[:_LENGTH_BYTES], "little")
        header = json.loads(content[_LENGTH_BYTES:start])
        dtypes = {short: np.dtype(name) for name, short in _TYPES.items()}
        arrays = {}
        for name, about in header.items():
            first, last = about["data_offsets"]
            values = np.frombuffer(content[start + first : start + last], dtypes[about["dtype"]])
            arrays[name] = values.reshape(about["shape"])
        return arrays
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} is damaged ({error})") from error
