"""What the devices could do, and how much of it a run uses."""

from __future__ import annotations

import jax

PEAK_TFLOPS = {
    "TPU v4": 275,
    "TPU v5 lite": 197,
    "TPU v5": 459,
    "TPU v5p": 459,
    "TPU v6 lite": 918,
    "NVIDIA V100": 125,
    "NVIDIA A100": 312,
    "NVIDIA L4": 121,
    "NVIDIA H100": 989,
    "NVIDIA H200": 989,
}
"""Beginning of JAX's name of a device kind to its maker's figure for dense products in bfloat16 (V100: float16)."""


def peak_flops(given_tflops: float, kind: str) -> float | None:
    """Operations per second of one device: what is given, else those of its kind; None where both are unknown.

    >>> peak_flops(0, "TPU v5 lite"), peak_flops(2.5, "cpu"), peak_flops(0, "cpu")
    (197000000000000.0, 2500000000000.0, None)
    """
    known = [name for name in PEAK_TFLOPS if kind.startswith(name)]
    tflops = given_tflops or (PEAK_TFLOPS[max(known, key=len)] if known else 0)
    return tflops * 1e12 or None


def peak_memory_gib() -> dict[str, float]:
    """``peak_memory_gib`` of the fullest device of this process so far; nothing where devices do not tell (CPU)."""
    stats = [device.memory_stats() or {} for device in jax.local_devices()]
    peaks = [s["peak_bytes_in_use"] for s in stats if "peak_bytes_in_use" in s]
    return {"peak_memory_gib": max(peaks) / 2**30} if peaks else {}
