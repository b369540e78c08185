"""What the engine did, in numbers."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np


@dataclass
class StageStats:
    """What ran of one stage."""

    row_macs: int
    """Multiply-adds of a row."""
    largest: int
    """Rows of the largest bucket."""
    rows: int = 0
    """Rows of videos that ran."""
    padding: int = 0
    """Rows without a video that ran."""
    buckets: dict[int, int] = field(default_factory=dict)
    """Size to number of buckets that ran."""

    @property
    def fill_frac(self) -> float:
        """Mean share of the largest bucket that was filled, in [0, 1]."""
        return self.rows / max(1, self.largest * sum(self.buckets.values()))

    @property
    def padding_frac(self) -> float:
        """Share of the rows that ran which were padding, in [0, 1]."""
        return self.padding / max(1, self.rows + self.padding)


@dataclass
class EngineStats:
    """Since the engine was made, or since ``reset_stats``."""

    stages: dict[str, StageStats]
    exits: np.ndarray
    """``[E]`` int64: videos that left at each exit."""
    calibration_shares: np.ndarray | None = None
    """``[E]``: shares that left at each exit of the calibration split; None without a policy that stores them."""
    errors: int = 0
    """Videos that ended in an error."""
    macs: int = 0
    """Multiply-adds that the videos' exits account for: the sum of their ``exit_gflops`` · 10⁹."""
    ahead_rows: int = 0
    """Rows that ran ahead of a decision and turned out to lie behind the exit."""
    wall_sec: float = 0.0
    """In ``run``, without the time that the caller spends between results."""
    host_sec: float = 0.0
    """Of that, processor time of the thread that runs the engine. While it stands still on a busy CPU, programs of the
    devices run there."""
    pixel_wait_sec: float = 0.0
    """Of that, waiting for pixels with nothing to run: all devices stand idle."""

    @property
    def videos(self) -> int:
        """Videos that were predicted."""
        return int(self.exits.sum())

    @property
    def executed_macs(self) -> int:
        """Multiply-adds of all rows of videos that ran, without padding: ``macs`` where nothing ran ahead or failed."""
        return sum(stage.rows * stage.row_macs for stage in self.stages.values())

    @property
    def exit_shares(self) -> np.ndarray:
        """``[E]``, sums to 1: of the videos predicted, the share that left at each exit."""
        return self.exits / max(1, self.videos)

    @property
    def drift(self) -> float | None:
        """Total variation distance, in [0, 1], of ``exit_shares`` from the calibration's: 0 where videos are alike."""
        if self.calibration_shares is None or not self.videos:
            return None
        return float(np.abs(self.exit_shares - self.calibration_shares).sum() / 2)

    @property
    def host_ms_per_bucket(self) -> float:
        """Milliseconds of the host's own work per bucket: filling, starting, fetching it, decisions, bookkeeping."""
        buckets = sum(sum(stage.buckets.values()) for stage in self.stages.values())
        return 1e3 * self.host_sec / max(1, buckets)

    def as_dict(self) -> dict[str, Any]:
        """All of it as plain values, for JSON."""
        shares = None if self.calibration_shares is None else self.calibration_shares.tolist()
        return {
            "videos": self.videos,
            "errors": self.errors,
            "exit_shares": self.exit_shares.tolist(),
            "calibration_shares": shares,
            "drift": self.drift,
            "mean_gflops": self.macs / 1e9 / max(1, self.videos),
            "executed_gflops": self.executed_macs / 1e9,
            "ahead_rows": self.ahead_rows,
            "wall_sec": self.wall_sec,
            "pixel_wait_frac": self.pixel_wait_sec / max(self.wall_sec, 1e-9),
            "host_ms_per_bucket": self.host_ms_per_bucket,
            "stages": {
                name: {
                    "rows": stage.rows,
                    "fill_frac": stage.fill_frac,
                    "padding_frac": stage.padding_frac,
                    "buckets": {str(size): count for size, count in sorted(stage.buckets.items())},
                }
                for name, stage in self.stages.items()
            },
        }
