"""The terms of the training loss."""

import math

import pytest

torch = pytest.importorskip("torch", reason="parity tests need PyTorch (pip install torch)")


def cross_entropy(logits, labels):
    """Mean over all of ``[B, ..., K]``, a video's logits sharing its label."""
    per_video = logits.flatten(1, -2) if logits.ndim > 2 else logits[:, None]
    labels = labels[:, None].expand(per_video.shape[:2])
    return torch.nn.functional.cross_entropy(per_video.flatten(0, 1), labels.flatten())


def loss_terms(out, labels, norm_ratio, kl_ratio):
    """Name to scalar, of what a model in training returned."""
    terms = {}
    average = (lambda logits: logits.mean(1)) if out.average_frames else (lambda logits: logits)
    seen = slice(-1, None) if out.average_frames else slice(None)
    terms["exits"] = sum(cross_entropy(logits[:, seen], labels) for logits in out.exit_logits) / 2
    terms["glance"] = cross_entropy(average(out.global_logits), labels)
    terms["focus"] = sum(cross_entropy(average(logits), labels) for logits in out.local_logits) / 2
    terms["temporal"] = cross_entropy(out.temporal_logits, labels)
    terms["spatial"] = cross_entropy(out.spatial_logits, labels)
    terms["norm"] = (out.actions[..., 2:] - 1).square().mean()
    weights = out.frame_weights
    terms["kl"] = (weights * weights.log()).sum(1).mean() + math.log(weights.shape[1])
    cross_entropies = sum(terms[name] for name in ("exits", "glance", "focus", "temporal", "spatial"))
    terms["total"] = cross_entropies + norm_ratio * terms["norm"] + kl_ratio * terms["kl"]
    return terms
