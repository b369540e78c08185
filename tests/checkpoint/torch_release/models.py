"""The three published variants, whole."""

from dataclasses import dataclass
from types import SimpleNamespace

import pytest

from . import ops

torch = pytest.importorskip("torch", reason="parity tests need PyTorch (pip install torch)")
nn = torch.nn


@dataclass(frozen=True)
class Sizes:
    """How many frames, and how large; sides of a box in pixels."""

    glance: int
    candidates: int
    focus: int
    classes: int
    patch: int = 128
    image: int = 224
    glance_side: int = 224
    smallest: float = 96
    largest: float = 224
    hidden: int = 128
    temporal_hidden: int = 64


class SpatialPolicy(nn.Module):
    def __init__(self, width, hidden, window):
        super().__init__()
        layers = [nn.Conv3d(width, hidden, 1, bias=False), nn.BatchNorm3d(hidden), nn.ReLU()]
        for _ in range(2):
            layers += [nn.Conv3d(hidden, hidden, 3, padding=1, bias=False), nn.BatchNorm3d(hidden), nn.ReLU()]
        self.encoder = nn.Sequential(*layers, nn.Conv3d(hidden, 4, window, bias=False), nn.Sigmoid())

    def forward(self, maps):
        return self.encoder(maps.transpose(1, 2)).flatten(2).transpose(1, 2)


class TemporalPolicy(nn.Module):
    def __init__(self, width, hidden):
        super().__init__()
        layers = []
        for inputs in (width, hidden):
            conv = nn.Conv2d(inputs, hidden, (3, 1), padding=(1, 0), bias=False)
            layers += [conv, nn.BatchNorm2d(hidden), nn.ReLU()]
        self.Tconv = nn.Sequential(*layers, nn.Conv2d(hidden, 1, 1, bias=False))

    def forward(self, features):
        return self.Tconv(features.transpose(1, 2)[..., None]).flatten(1)


class AdaFocus(nn.Module):
    """Subclasses make the encoders, ``proxy`` and the heads, and say how a video is classified."""

    one_box = True
    average_frames = True

    def __init__(self, sizes, global_cnn, local_cnn, map_side):
        super().__init__()
        self.sizes, width = sizes, self.width(global_cnn)
        self.global_CNN, self.local_CNN = global_cnn, local_cnn
        window = (sizes.glance if self.one_box else 1, map_side, map_side)
        self.spatial_policy = SpatialPolicy(width, sizes.hidden, window)
        self.temporal_policy = TemporalPolicy(width, sizes.temporal_hidden)

    def width(self, cnn):
        return cnn.width

    def rounds(self):
        return self.sizes.glance // 3

    def policy_input(self, x):
        """What the temporal policy and its loss see of the encoder's features and logits."""
        return x.detach()

    def forward(self, video, glance=None, draws=None):
        """Candidates ``[B, N, 3, S, S]``, glance frames unless cut from them, draws in training."""
        sizes = self.sizes
        if glance is None:
            glance = take(video, self.glanced(len(video), draws))
        maps = self.encode(self.global_CNN, self.shrink(glance))
        features = maps.mean((3, 4))
        logits = self.frame_logits("global", features)
        actions = self.spatial_policy(maps.detach())
        weights = self.temporal_policy(self.policy_input(features)).softmax(1)
        u = torch.full((len(video), sizes.focus), 0.5) if draws is None else draws.thresholds
        indices = ops.select_frames(weights, sizes.candidates, u)
        frames = take(video, indices)
        all_actions = [take(ops.spread_actions(actions, sizes.candidates), indices).detach()]
        if draws is not None:
            place = draws.positions.expand(-1, sizes.focus, -1)
            size = (sizes.patch - sizes.smallest) / (sizes.largest - sizes.smallest)
            all_actions.append(torch.cat([place, torch.full_like(place, size)], -1))
        boxes = [ops.boxes_of(a, sizes.image, sizes.smallest, sizes.largest) for a in all_actions]
        patches = [ops.crop(frames.flatten(0, 1), box.flatten(0, 1), sizes.patch) for box in boxes]
        patches = torch.cat(patches).unflatten(0, (-1, sizes.focus))
        local = self.encode(self.local_CNN, patches).mean((3, 4)).chunk(len(boxes))
        return SimpleNamespace(
            exit_logits=self.exits(features, logits, local),
            global_logits=logits,
            local_logits=[self.frame_logits("local", features) for features in local],
            temporal_logits=self.temporal_logits(weights, self.policy_input(logits), draws),
            spatial_logits=self.proxy(self.cropped(maps.detach(), actions).mean((1, 3, 4))),
            frame_weights=weights,
            frame_indices=indices,
            actions=actions,
            boxes=boxes,
            glance_features=features,
            average_frames=self.average_frames,
        )

    def glanced(self, videos, draws):
        step = self.sizes.candidates // self.sizes.glance
        first = torch.arange(0, self.sizes.candidates, step).expand(videos, -1)
        return first + (step // 2 if draws is None else (draws.glance_offsets * step).floor().long())

    def shrink(self, glance):
        side = (self.sizes.glance_side,) * 2
        small = nn.functional.interpolate(glance.flatten(0, 1), side, mode="bilinear", align_corners=False)
        return small.unflatten(0, glance.shape[:2])

    def encode(self, cnn, video):
        return cnn(video)

    def cropped(self, maps, actions):
        """Each glance frame's map ``[B, G, C, h, w]``, cut by its own box or by the video's one."""
        sizes, side = self.sizes, maps.shape[-1]
        out = round(side * sizes.patch / sizes.image)
        limits = (limit * out / sizes.patch for limit in (sizes.smallest, sizes.largest))
        boxes = ops.boxes_of(actions.expand(-1, sizes.glance, -1), side, *limits)
        return ops.crop(maps.flatten(0, 1), boxes.flatten(0, 1), out).unflatten(0, maps.shape[:2])

    def temporal_logits(self, weights, logits, draws):
        if draws is None or draws.gumbel is None:
            return ops.mean_over_all_orders(weights, logits, self.rounds())
        return ops.mean_over_draws(weights, logits, self.rounds(), draws.gumbel)


class Hidden(nn.Module):
    def __init__(self, inputs, width):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(inputs, width), nn.BatchNorm1d(width), nn.ReLU())

    def forward(self, features):
        """The running maximum over frames."""
        return self.layers(features.flatten(0, 1)).unflatten(0, features.shape[:2]).cummax(1).values


def head(inputs, classes):
    return nn.Sequential(nn.Dropout(0), nn.Linear(inputs, classes))


class PooledClassifier(nn.Module):
    def __init__(self, global_width, local_width, pooled, sizes):
        super().__init__()
        self.global_mlp, self.local_mlp = Hidden(global_width, pooled), Hidden(local_width, pooled)
        self.global_classifiers = nn.ModuleList(head(pooled, sizes.classes) for _ in range(sizes.glance))
        self.local_classifiers = nn.ModuleList(head(2 * pooled, sizes.classes) for _ in range(sizes.focus))

    def forward(self, features, local):
        """Glance features, and focus features of each pass, to exit logits ``[B, E, K]`` of each pass."""
        glance = self.global_mlp(features)
        early = [linear(glance[:, g]) for g, linear in enumerate(self.global_classifiers)]
        passes = []
        for features in local:
            closer = self.local_mlp(features)
            both = torch.cat([closer, glance[:, -1:].expand_as(closer)], -1)
            late = [linear(both[:, f]) for f, linear in enumerate(self.local_classifiers)]
            passes.append(torch.stack(early + late, 1))
        return passes


class PooledExits(AdaFocus):
    """``uni_adafocus``: an exit after every frame."""

    one_box = average_frames = False

    def __init__(self, sizes, global_cnn, local_cnn, map_side=7, pooled=4096):
        super().__init__(sizes, global_cnn, local_cnn, map_side)
        self.global_CNN_fc, self.local_CNN_fc = (
            head(cnn.width, sizes.classes) for cnn in (global_cnn, local_cnn)
        )
        self.aux_fc = nn.Linear(global_cnn.width, sizes.classes)
        widths = global_cnn.width, local_cnn.width
        self.classifier = PooledClassifier(*widths, pooled, sizes)

    def policy_input(self, x):
        return x

    def frame_logits(self, part, features):
        return (self.global_CNN_fc if part == "global" else self.local_CNN_fc)(features)

    def proxy(self, x):
        return self.aux_fc(x)

    def exits(self, features, logits, local):
        return self.classifier(features, local)


class Shifted(nn.Module):
    """An encoder of TSM's code base with its two heads."""

    def __init__(self, encoder, classes):
        super().__init__()
        self.base_model, self.encoder_width = encoder, encoder.width
        self.new_fc, self.new_new_fc = (nn.Linear(encoder.width, classes) for _ in range(2))


class TwoHeads(AdaFocus):
    """Exits after the glance (mean auxiliary logits) and after all (sum of the final heads)."""

    def exits(self, features, logits, local):
        glance, early = self.final("global", features.detach()), logits.mean(1)
        return [torch.stack([early, glance + self.final("local", x.detach())], 1) for x in local]


class TwoHeadsTSM(TwoHeads):
    """``uni_adafocus_tsm``."""

    def __init__(self, sizes, global_cnn, local_cnn, map_side=7):
        parts = (Shifted(cnn, sizes.classes) for cnn in (global_cnn, local_cnn))
        super().__init__(sizes, *parts, map_side)
        self.aux_fc = nn.Linear(global_cnn.width, sizes.classes)

    def width(self, cnn):
        return cnn.encoder_width

    def encode(self, cnn, video):
        return cnn.base_model(video)

    def frame_logits(self, part, features):
        return getattr(self, f"{part}_CNN").new_new_fc(features)

    def final(self, part, features):
        return getattr(self, f"{part}_CNN").new_fc(features).mean(1)

    def proxy(self, x):
        return self.aux_fc(x)


class TwoHeadsX3D(TwoHeads):
    """``uni_adafocus_x3d``: the encoders bring the final heads."""

    def __init__(self, sizes, global_cnn, local_cnn, map_side=5):
        super().__init__(sizes, global_cnn, local_cnn, map_side)
        for part, cnn in (("global", global_cnn), ("local", local_cnn)):
            hidden = cnn.head.projection.in_features
            layers = [nn.Linear(cnn.width, hidden, bias=False), nn.ReLU(), nn.Dropout(0)]
            self.add_module(f"{part}_CNN_head", nn.Sequential(*layers, nn.Linear(hidden, sizes.classes)))
        self.aux_head = nn.Sequential(nn.Linear(global_cnn.width, sizes.classes))

    def rounds(self):
        return round(self.sizes.glance / 3)

    def frame_logits(self, part, features):
        return getattr(self, f"{part}_CNN_head")(features)

    def final(self, part, features):
        return getattr(self, f"{part}_CNN").classify(features)

    def proxy(self, x):
        return self.aux_head(x)


def take(x, indices):
    """Of ``[B, N, ...]`` what stands at ``[B, F]``."""
    return x[torch.arange(len(x))[:, None], indices]
