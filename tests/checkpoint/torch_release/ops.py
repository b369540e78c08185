"""Boxes, crops, frame selection and expected logits, one definition after the other."""

import itertools

import pytest

torch = pytest.importorskip("torch", reason="parity tests need PyTorch (pip install torch)")
functional = torch.nn.functional


def boxes_of(actions, extent, low, high):
    """Top, left, height, width of actions ``(y, x, size_y, size_x)`` in an image of ``extent`` pixels."""
    y, x, size_y, size_x = actions.unbind(-1)
    height, width = low + (high - low) * size_y, low + (high - low) * size_x
    return torch.stack([y * (extent - height), x * (extent - width), height, width], -1)


def crop(images, boxes, side):
    """``[n, C, S, S]`` and ``[n, 4]`` to ``[n, C, side, side]``, by PyTorch's own grid sampling."""
    extent = images.shape[-1]
    top, left, height, width = boxes.unbind(-1)
    nothing = torch.zeros_like(top)
    across = torch.stack([width / extent, nothing, (2 * left + width) / extent - 1], -1)
    down = torch.stack([nothing, height / extent, (2 * top + height) / extent - 1], -1)
    shape = (len(images), images.shape[1], side, side)
    grid = functional.affine_grid(torch.stack([across, down], 1), shape, align_corners=False)
    return functional.grid_sample(images, grid, align_corners=False)


def spread_actions(actions, candidates):
    """Actions ``[B, G or 1, 4]`` at all candidates, ``[B, N, 4]``."""
    along = functional.interpolate(actions.transpose(1, 2), candidates, mode="linear", align_corners=False)
    return along.transpose(1, 2)


@torch.no_grad()
def select_frames(weights, candidates, u):
    """Candidates ``[B, F]`` at the quantiles ``(k + u_k) / F`` of the weights ``[B, G]``."""
    bins, focus = weights.shape[1], u.shape[1]
    chosen = []
    for row, draws in zip(weights, u, strict=True):
        edges = torch.cat([torch.zeros(1), row.cumsum(0)[:-1], torch.ones(1)])
        frames = []
        for k, draw in enumerate(draws):
            quantile = (k + draw) / focus
            g = max(int((edges >= quantile).nonzero()[0, 0]), 1) - 1
            place = candidates * (g + (quantile - edges[g]) / (edges[g + 1] - edges[g])) / bins
            frame = int(place.floor())
            frames.append(max(frame, frames[-1] + 1) if frames else frame)
        chosen.append([min(frame, candidates - focus + k) for k, frame in enumerate(frames)])
    return torch.tensor(chosen)


def mean_over_draws(weights, logits, rounds, gumbel):
    """Monte-Carlo logits ``[B, K]``: draw m removes the frames that its noise ``[B, M, G]`` puts first."""
    order = (weights.detach().log()[:, None] + gumbel).argsort(-1, descending=True)
    total = 0
    for removed in range(rounds):
        stays = torch.ones_like(gumbel).scatter(-1, order[..., :removed], 0)
        kept = weights[:, None] * stays
        share = kept / kept.sum(-1, keepdim=True).detach()
        total = total + (share @ logits).mean(1)
    return total / rounds


def mean_over_all_orders(weights, logits, rounds):
    """The expectation of the above, as a sum over every order in which frames can be drawn."""
    total = 0
    for removed in range(rounds):
        orders = torch.tensor(list(itertools.permutations(range(weights.shape[1]), removed))).long()
        drawn = weights.detach()[:, orders]
        left = 1 - torch.cat([torch.zeros_like(drawn[..., :1]), drawn.cumsum(-1)], -1)[..., :removed]
        probability = (drawn / left).prod(-1)
        stays = torch.ones(len(orders), weights.shape[1]).scatter(1, orders, 0)
        kept = weights[:, None] * stays
        share = kept / kept.sum(-1, keepdim=True).detach()
        total = total + torch.einsum("bo,bog,bgk->bk", probability, share, logits)
    return total / rounds
