"""High dynamic range (PQ and HLG of ITU-R BT.2100) to the standard range that models are trained on."""

from __future__ import annotations

import functools

import numpy as np

PQ, HLG = 16, 18
"""The transfer characteristics of ITU-T H.273 that are of high dynamic range."""

_WHITE_NITS = 203.0  # BT.2408: diffuse white, which becomes the white of the standard range
_PEAK_NITS = (
    1000.0  # of the display that the material was graded on, as most is; brighter lights become white
)
_HLG_GAMMA = 1.2  # BT.2100: of the display of that peak
_SDR_GAMMA = 2.4  # BT.1886

_BT2020_LUMINANCE = np.array([0.2627, 0.6780, 0.0593], np.float32)
# BT.2087: linear light of BT.2020 primaries to BT.709 primaries.
_TO_BT709 = np.array(
    [[1.6605, -0.5876, -0.0728], [-0.1246, 1.1329, -0.0083], [-0.0182, -0.1006, 1.1187]], np.float32
)

_M1, _M2 = 2610 / 16384, 2523 / 4096 * 128
_C1, _C2, _C3 = 3424 / 4096, 2413 / 4096 * 32, 2392 / 4096 * 32
_A, _B, _C = 0.17883277, 0.28466892, 0.55991073


def pq_to_nits(signal: np.ndarray) -> np.ndarray:
    """The light in cd/m² of a PQ signal in [0, 1] (SMPTE ST 2084): 10000 · (max(s^(1/m₂) − c₁, 0) / (c₂ − c₃·s^(1/m₂)))^(1/m₁).

    >>> float(pq_to_nits(np.array(1.0)))
    10000.0
    """  # noqa: E501
    root = np.asarray(signal) ** (1 / _M2)
    return 10000 * (np.maximum(root - _C1, 0) / (_C2 - _C3 * root)) ** (1 / _M1)


def nits_to_pq(nits: np.ndarray) -> np.ndarray:
    """The inverse of ``pq_to_nits``."""
    power = (np.asarray(nits) / 10000) ** _M1
    return ((_C1 + _C2 * power) / (1 + _C3 * power)) ** _M2


def hlg_to_scene(signal: np.ndarray) -> np.ndarray:
    """The light of the scene in [0, 1] of an HLG signal in [0, 1] (BT.2100): s²/3 up to ½, then (exp((s − c)/a) + b)/12."""  # noqa: E501
    signal = np.asarray(signal)
    return np.where(signal <= 0.5, signal**2 / 3, (np.exp((signal - _C) / _A) + _B) / 12)


def to_standard_range(image: np.ndarray, transfer: int) -> np.ndarray:
    """``image [H, W, 3]`` uint16 RGB of BT.2020 primaries → ``[H, W, 3]`` uint8 RGB of BT.709.

    To linear light of the primaries of BT.709; the largest of R, G and B through the knee of BT.2390, which leaves
    all below about 90 cd/m² as it is and takes 1000 cd/m² to white, the others in proportion, so that hues stay; then
    the display gamma of BT.1886.
    """
    if transfer == PQ:
        nits = _pq_table()[image]
    else:
        scene = _hlg_table()[image]
        luminance = scene @ _BT2020_LUMINANCE
        nits = _PEAK_NITS * scene * luminance[..., None] ** (_HLG_GAMMA - 1)
    nits = nits @ _TO_BT709.T
    levels, gains = _gains()
    light = nits * np.interp(nits.max(axis=-1), levels, gains).astype(np.float32)[..., None]
    light = np.clip(light, 0, 1)
    return np.rint(255 * light ** (1 / _SDR_GAMMA)).astype(np.uint8)


def knee(nits: np.ndarray) -> np.ndarray:
    """The light shown for the light graded, both in cd/m²: the EETF of BT.2390 from 1000 to 203 cd/m²."""
    peak = float(nits_to_pq(np.array(_PEAK_NITS)))
    top = float(nits_to_pq(np.array(_WHITE_NITS))) / peak
    start = 1.5 * top - 0.5
    level = np.minimum(nits_to_pq(nits) / peak, 1)
    t = np.maximum(level - start, 0) / (1 - start)
    curve = (2 * t**3 - 3 * t**2 + 1) * start + (t**3 - 2 * t**2 + t) * (1 - start)
    curve += (-2 * t**3 + 3 * t**2) * top
    return pq_to_nits(peak * np.where(level < start, level, curve))


@functools.cache
def _pq_table() -> np.ndarray:
    return pq_to_nits(np.arange(2**16) / (2**16 - 1)).astype(np.float32)


@functools.cache
def _hlg_table() -> np.ndarray:
    return hlg_to_scene(np.arange(2**16) / (2**16 - 1)).astype(np.float32)


@functools.cache
def _gains() -> tuple[np.ndarray, np.ndarray]:
    """By what to multiply light, where its largest component is each of the levels, so that white is 1."""
    levels = np.concatenate([[0.0], np.geomspace(1e-3, 1e4, 512)])
    return levels, np.concatenate([[1.0], knee(levels[1:]) / levels[1:]]) / _WHITE_NITS
