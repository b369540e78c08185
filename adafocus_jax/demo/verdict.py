"""What a run of the demo is worth: its policies against the controls, and its figures against those of other seeds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from adafocus_jax.demo.outcome import Outcome

TOLERANCE = 3
"""Points: few seeds do not tell how far apart runs may end, and 300 videos tell a share to about two."""


@dataclass(frozen=True)
class Spread:
    """A figure over the runs of ``SEEDS``, as ``adafocus demo`` trains them."""

    name: str
    mean: float
    low: float
    high: float
    unit: str = "%"

    def place(self, value: float) -> str:
        """Where a run with ``value`` stands among them; up to ``TOLERANCE`` beside their range it is like them.

        >>> Spread("top-1", mean=98, low=96, high=99).place(90)
        'below all of them'
        """
        if round(value) < self.low - TOLERANCE:
            return "below all of them"
        return "above all of them" if round(value) > self.high + TOLERANCE else "within their range"


SEEDS = "0–7"
TOP1 = Spread("top-1 on held-out videos", 100, 100, 100)
COVERED = Spread("figure covered by the chosen patch", 84, 80, 89)
FRAMES = Spread("chosen frames that hold the figure", 86, 84, 89)
GAIN = Spread("top-1 above the best control", 17, 14, 20, " points")

LEAST_GAIN = 5.0
"""Points of top-1 above every control from which on policies count as learned: two standard errors of 300 videos."""
_GLANCE_KNOWS = 40.0
"""Top-1 in % of the glance from which on policies have something to learn from; by colour alone it can reach 50."""


@dataclass(frozen=True)
class Verdict:
    """Whether the policies are worth what they cost."""

    gain: float
    """Top-1 of the learned policies less that of the best control, points."""
    control: str
    """That control, in words."""
    figures: tuple[tuple[Spread, float], ...]
    """The run's figures, each with its spread over seeds."""
    hints: tuple[str, ...]
    """What to look at, the most likely cause first; empty where the policies beat every control."""

    @property
    def sentence(self) -> str:
        """The verdict in one sentence."""
        if not self.hints:
            best = f"the best of them ({self.control}) by {self.gain:.0f} points"
            return f"The learned policies beat every control, {best}."
        by = f"only by {self.gain:.0f} points" if self.gain > 0 else f"at all ({self.gain:+.0f} points)"
        does = "beat" if self.gain > 0 else "do not beat"
        return f"This run did not work: the learned policies {does} {self.control} {by}."


def judge(figures: Mapping[str, Any], num_glance: int, outcome: Outcome) -> Verdict:
    """Compares a run with its controls and with the runs of other seeds.

    Args:
      figures: of ``adafocus evaluate --controls``.
      num_glance: ``G``.
      outcome: of the learned policies.
    """
    learned, *controls = figures["controls"]
    best = max(controls, key=lambda row: row["top1"])
    gain, score = learned["top1"] - best["top1"], outcome.score
    values = (figures["top1"], 100 * score.learned.figure_covered, 100 * score.frames_with_figure, gain)
    glance = [*figures["exits"].values()][num_glance - 1]
    return Verdict(
        gain=gain,
        control=f"{best['spatial']} patches, {best['temporal']} frames",
        figures=tuple(zip((TOP1, COVERED, FRAMES, GAIN), values, strict=True)),
        hints=() if gain >= LEAST_GAIN else tuple(_hints(glance, outcome)),
    )


def _hints(glance: float, outcome: Outcome) -> Iterator[str]:
    """Causes in the order in which one leads to the next: the glance, then when, then where."""
    score = outcome.score
    if glance < _GLANCE_KNOWS:
        yield (
            f"the glance names the class in {glance:.0f}%, where the figure's colour alone gives 50%, so that the "
            "policies have little to learn from: see loss/glance in the training curves, and train longer (--steps)"
        )
    uniform = score.frames_with_figure_uniform
    left_out = {colour: share for colour, share in outcome.frames_by_colour.items() if share < 2 * uniform}
    if left_out:
        shares = ", ".join(f"{colour} {share:.0%}" for colour, share in left_out.items())
        yield (
            "the temporal policy does not look for every colour; chosen frames that hold the figure, by its colour: "
            f"{shares} (uniform frames {uniform:.0%}): the glance tells them by the absence of the others, or the "
            "policy has settled before the glance knew them; try another seed, a higher "
            "optimizer.groups.temporal_policy.delay_frac or a lower factor"
        )
    if score.learned.figure_covered < 2 * score.random.figure_covered:
        yield (
            f"the chosen patches cover {score.learned.figure_covered:.0%} of the figure: see policy/saturated_frac, "
            "which rises where all boxes sit in a corner, and lower optimizer.groups.spatial_policy.factor or "
            "raise its delay_frac"
        )
    yield "compare with other seeds (--seed 1): where all of them fail, something is broken, so please report it"
