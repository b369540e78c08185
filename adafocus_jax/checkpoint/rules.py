"""PyTorch's names for our parameters, as tables: one row per kind of layer, one table per network.

A row reads: the layer's name in PyTorch, its path here, and the axes of its kernel there and here. ``<s>`` is a number
that is the same on both sides, ``<s+1>`` the next one. Axes are letters: O outputs, I inputs, D H W time and space,
E exits (one layer per exit there, stacked here), 1 an axis of length one. The first row that fits counts.
"""

from __future__ import annotations

import functools
import itertools
import re
from collections.abc import Callable, Collection, Iterator
from typing import Any, NamedTuple

from flax import linen as nn

from adafocus_jax.errors import UserError
from adafocus_jax.models.layers import round_channels
from adafocus_jax.models.mobilenet_v2 import MobileNetV2
from adafocus_jax.models.resnet import ResNet
from adafocus_jax.models.x3d import X3D

VECTOR = ("O", "O")
LINEAR = ("OI", "IO")
EXITS = ("OI", "EIO")
CONV = ("OIHW", "HWIO")
CONV_3D = ("OIDHW", "DHWIO")
FRAME_CONV = ("OI1HW", "HWIO")
POINT_CONV = ("OI111", "11IO")
POINT_LINEAR = ("OI111", "IO")
TIME_CONV = ("OID1", "D11IO")
TIME_LINEAR = ("OI11", "IO")


class Rule(NamedTuple):
    """One row: a kind of layer."""

    name: str
    path: str
    axes: tuple[str, str] = VECTOR
    """Of the kernel; a norm has vectors alone."""

    def within(self, name: str, path: str) -> Rule:
        """The same layer within a larger module of that name and path."""
        return Rule(name + self.name, path + self.path, self.axes)

    def name_of(self, path: str) -> str | None:
        """PyTorch's name of the layer at ``path``; None if this is not its row.

        >>> Rule("s<s+1>.res<b>.a", "stage<s>_<b>/expand", CONV).name_of("stage1_0/expand")
        's2.res0.a'
        """
        found = re.fullmatch(re.sub(r"<(\w)>", r"(?P<\1>\\d+)", self.path), path)
        if found is None:
            return None
        return re.sub(r"<(\w)(\+1)?>", lambda m: self._number(m, found.groupdict()), self.name)

    @staticmethod
    def _number(place: re.Match[str], numbers: dict[str, str]) -> str:
        if place[1] not in numbers:  # of an exit, which stays to be filled in
            return place[0]
        return str(int(numbers[place[1]]) + (place[2] is not None))


class Names(NamedTuple):
    """How one code base names what is in a model."""

    rules: tuple[Rule, ...]
    head: tuple[Rule, ...] = ()
    """Of the classifier that its state dicts carry too and that is ignored, unless it is what is wanted."""
    starts_heads: bool = False
    """That classifier is what the heads of the encoder start as, where they are fine-tuned."""

    def within(self, name: str, path: str) -> Names:
        """The same within a larger module of that name and path."""
        rules, head = (tuple(rule.within(name, path) for rule in rows) for rows in (self.rules, self.head))
        return Names(rules, head, self.starts_heads)


RESNET = (
    Rule("conv1", "conv1", CONV),
    Rule("bn1", "bn1"),
    Rule("layer<s>.<b>.conv<n>", "layer<s>_<b>/conv<n>", CONV),
    Rule("layer<s>.<b>.bn<n>", "layer<s>_<b>/bn<n>"),
    Rule("layer<s>.<b>.downsample.0", "layer<s>_<b>/downsample", CONV),
    Rule("layer<s>.<b>.downsample.1", "layer<s>_<b>/downsample_bn"),
)
"""torchvision, timm."""

RESNET_SHIFTED = (Rule("layer<s>.<b>.conv1.net", "layer<s>_<b>/conv1", CONV), *RESNET)
"""TSM."""

MOBILENET_V2_ENDS = (
    Rule("features.0.0", "stem", CONV),
    Rule("features.0.1", "stem_bn"),
    Rule("features.{last}.0", "last", CONV),
    Rule("features.{last}.1", "last_bn"),
)
"""tonylins/pytorch-mobilenet-v2 and torchvision; ``{last}`` counts the blocks."""

MOBILENET_V2 = (
    Rule("features.1.conv.0", "block1/depthwise", CONV),
    Rule("features.1.conv.1", "block1/depthwise_bn"),
    Rule("features.1.conv.3", "block1/project", CONV),
    Rule("features.1.conv.4", "block1/project_bn"),
    Rule("features.<i>.conv.0", "block<i>/expand", CONV),
    Rule("features.<i>.conv.1", "block<i>/expand_bn"),
    Rule("features.<i>.conv.3", "block<i>/depthwise", CONV),
    Rule("features.<i>.conv.4", "block<i>/depthwise_bn"),
    Rule("features.<i>.conv.6", "block<i>/project", CONV),
    Rule("features.<i>.conv.7", "block<i>/project_bn"),
)
"""tonylins/pytorch-mobilenet-v2, which the authors' release and TSM use."""

MOBILENET_V2_TORCHVISION = (
    Rule("features.1.conv.0.0", "block1/depthwise", CONV),
    Rule("features.1.conv.0.1", "block1/depthwise_bn"),
    Rule("features.1.conv.1", "block1/project", CONV),
    Rule("features.1.conv.2", "block1/project_bn"),
    Rule("features.<i>.conv.0.0", "block<i>/expand", CONV),
    Rule("features.<i>.conv.0.1", "block<i>/expand_bn"),
    Rule("features.<i>.conv.1.0", "block<i>/depthwise", CONV),
    Rule("features.<i>.conv.1.1", "block<i>/depthwise_bn"),
    Rule("features.<i>.conv.2", "block<i>/project", CONV),
    Rule("features.<i>.conv.3", "block<i>/project_bn"),
)

MOBILENET_V2_TIMM = (
    Rule("conv_stem", "stem", CONV),
    Rule("bn1", "stem_bn"),
    Rule("blocks.0.0.conv_dw", "block1/depthwise", CONV),
    Rule("blocks.0.0.bn1", "block1/depthwise_bn"),
    Rule("blocks.0.0.conv_pw", "block1/project", CONV),
    Rule("blocks.0.0.bn2", "block1/project_bn"),
    Rule("conv_head", "last", CONV),
    Rule("bn2", "last_bn"),
)
MOBILENET_V2_TIMM_BLOCK = (
    Rule("conv_pw", "expand", CONV),
    Rule("bn1", "expand_bn"),
    Rule("conv_dw", "depthwise", CONV),
    Rule("bn2", "depthwise_bn"),
    Rule("conv_pwl", "project", CONV),
    Rule("bn3", "project_bn"),
)

X3D_SLOWFAST = (
    Rule("s1.pathway0_stem.conv_xy", "stem_space", FRAME_CONV),
    Rule("s1.pathway0_stem.conv", "stem_time", CONV_3D),
    Rule("s1.pathway0_stem.bn", "stem_bn"),
    Rule("s<s+1>.pathway0_res<b>.branch1", "stage<s>_<b>/shortcut", POINT_CONV),
    Rule("s<s+1>.pathway0_res<b>.branch1_bn", "stage<s>_<b>/shortcut_bn"),
    Rule("s<s+1>.pathway0_res<b>.branch2.a", "stage<s>_<b>/expand", POINT_CONV),
    Rule("s<s+1>.pathway0_res<b>.branch2.a_bn", "stage<s>_<b>/expand_bn"),
    Rule("s<s+1>.pathway0_res<b>.branch2.b", "stage<s>_<b>/depthwise", CONV_3D),
    Rule("s<s+1>.pathway0_res<b>.branch2.b_bn", "stage<s>_<b>/depthwise_bn"),
    Rule("s<s+1>.pathway0_res<b>.branch2.se.fc1", "stage<s>_<b>/squeeze_excite/reduce", POINT_LINEAR),
    Rule("s<s+1>.pathway0_res<b>.branch2.se.fc2", "stage<s>_<b>/squeeze_excite/expand", POINT_LINEAR),
    Rule("s<s+1>.pathway0_res<b>.branch2.c", "stage<s>_<b>/project", POINT_CONV),
    Rule("s<s+1>.pathway0_res<b>.branch2.c_bn", "stage<s>_<b>/project_bn"),
    Rule("head.conv_5", "last", POINT_CONV),
    Rule("head.conv_5_bn", "last_bn"),
)
X3D_SLOWFAST_HEAD = (
    Rule("head.lin_5", "hidden", POINT_LINEAR),
    Rule("head.projection", "logits", LINEAR),
)
HEADS_OF = {
    "global_encoder": ("global_final_head", "global_head"),
    "local_encoder": ("local_final_head", "local_head"),
    "encoder": ("classifier",),
}
"""Part to the heads on its features."""

ENCODERS = {"global_encoder": "global_CNN", "local_encoder": "local_CNN"}
POLICIES: tuple[Rule, ...] = (
    Rule("spatial_policy.encoder.0", "spatial_policy/conv1", POINT_LINEAR),
    Rule("spatial_policy.encoder.1", "spatial_policy/norm1"),
    Rule("spatial_policy.encoder.3", "spatial_policy/conv2", CONV_3D),
    Rule("spatial_policy.encoder.4", "spatial_policy/norm2"),
    Rule("spatial_policy.encoder.6", "spatial_policy/conv3", CONV_3D),
    Rule("spatial_policy.encoder.7", "spatial_policy/norm3"),
    Rule("spatial_policy.encoder.9", "spatial_policy/conv4", CONV_3D),
    Rule("temporal_policy.Tconv.0", "temporal_policy/conv1", TIME_CONV),
    Rule("temporal_policy.Tconv.1", "temporal_policy/norm1"),
    Rule("temporal_policy.Tconv.3", "temporal_policy/conv2", TIME_CONV),
    Rule("temporal_policy.Tconv.4", "temporal_policy/norm2"),
    Rule("temporal_policy.Tconv.6", "temporal_policy/conv3", TIME_LINEAR),
)
"""The authors' release; so are all below."""

UNI_ADAFOCUS: tuple[Rule, ...] = (
    *POLICIES,
    Rule("global_CNN_fc.1", "global_head/linear", LINEAR),
    Rule("local_CNN_fc.1", "local_head/linear", LINEAR),
    Rule("aux_fc", "proxy_head", LINEAR),
    Rule("classifier.global_mlp.layers.0", "classifier/glance_hidden", LINEAR),
    Rule("classifier.global_mlp.layers.1", "classifier/glance_norm"),
    Rule("classifier.local_mlp.layers.0", "classifier/focus_hidden", LINEAR),
    Rule("classifier.local_mlp.layers.1", "classifier/focus_norm"),
    Rule("classifier.global_classifiers.<e>.1", "classifier/glance_heads", EXITS),
    Rule("classifier.local_classifiers.<e>.1", "classifier/focus_heads", EXITS),
)
UNI_ADAFOCUS_UNUSED = (  # ImageNet's, each on the input of the layer at its path
    Rule("global_CNN.classifier", "global_head/linear", LINEAR),
    Rule("local_CNN.fc", "local_head/linear", LINEAR),
)

UNI_ADAFOCUS_TSM: tuple[Rule, ...] = (
    *POLICIES,
    Rule("global_CNN.new_fc", "global_final_head/linear", LINEAR),
    Rule("global_CNN.new_new_fc", "global_head/linear", LINEAR),
    Rule("local_CNN.new_fc", "local_final_head/linear", LINEAR),
    Rule("local_CNN.new_new_fc", "local_head/linear", LINEAR),
    Rule("aux_fc", "proxy_head", LINEAR),
)

UNI_ADAFOCUS_X3D: tuple[Rule, ...] = (
    *POLICIES,
    Rule("global_CNN.head.lin_5", "global_final_head/hidden", POINT_LINEAR),
    Rule("global_CNN.head.projection", "global_final_head/logits", LINEAR),
    Rule("global_CNN_head.0", "global_head/hidden", LINEAR),
    Rule("global_CNN_head.3", "global_head/logits", LINEAR),
    Rule("local_CNN.head.lin_5", "local_final_head/hidden", POINT_LINEAR),
    Rule("local_CNN.head.projection", "local_final_head/logits", LINEAR),
    Rule("local_CNN_head.0", "local_head/hidden", LINEAR),
    Rule("local_CNN_head.3", "local_head/logits", LINEAR),
    Rule("aux_head.0", "proxy_head", LINEAR),
)


def encoder_names(encoder: nn.Module) -> tuple[Names, ...]:
    """How code bases name the layers of an encoder; first the one that the authors' release took it from."""
    make = _REGISTERED.get(type(encoder))
    return make(encoder) if make else ()


def register_names(kind: type[nn.Module], names: Callable[[Any], tuple[Names, ...]]) -> None:
    """Makes the encoders or heads of a class convertible from PyTorch's state dicts, and back.

    Args:
      kind: the class that was registered with ``register_encoder`` or ``register_head``.
      names: from a module of the class to its names in each code base, the preferred one first. Paths and names
        begin within the module. In a whole model, an encoder's names stand below ``global_CNN.`` and ``local_CNN.``,
        those of a head below ``global_CNN_head.``, ``global_CNN_final_head.`` and likewise for ``local``; in a plain
        classifier both stand as they are.

    Raises:
      UserError: the class has names already.
    """
    if _REGISTERED.setdefault(kind, names) is not names:
        raise UserError(f"PyTorch's names of {kind.__name__} are registered already")


def _resnet_names(encoder: ResNet) -> tuple[Names, ...]:
    plain = (Names(RESNET, (Rule("fc", "linear", LINEAR),)),)
    return (_tsm_names(RESNET_SHIFTED), *plain) if encoder.shift else plain


def _tsm_names(rules: tuple[Rule, ...]) -> Names:
    return Names(Names(rules).within("base_model.", "").rules, (Rule("new_fc", "linear", LINEAR),))


def _mobilenet_v2_names(encoder: MobileNetV2) -> Iterator[Names]:
    blocks = list(_blocks(encoder))
    ends = tuple(rule._replace(name=rule.name.format(last=len(blocks) + 1)) for rule in MOBILENET_V2_ENDS)
    if encoder.shift:
        shifted = [
            Rule(f"features.{number}.conv.0.net", f"block{number}/expand", CONV)
            for number, (_, _, shift) in enumerate(blocks, start=1)
            if shift
        ]
        yield _tsm_names((*ends, *shifted, *MOBILENET_V2))
    yield Names((*ends, *MOBILENET_V2), (Rule("classifier", "linear", LINEAR),))
    yield Names((*ends, *MOBILENET_V2_TORCHVISION), (Rule("classifier.1", "linear", LINEAR),))
    timm = [
        rule.within(f"blocks.{stage}.{place}.", f"block{number}/")
        for number, (stage, place, _) in enumerate(blocks, start=1)
        for rule in MOBILENET_V2_TIMM_BLOCK
    ]
    yield Names((*MOBILENET_V2_TIMM, *timm), (Rule("classifier", "linear", LINEAR),))


def _blocks(encoder: MobileNetV2) -> Iterator[tuple[int, int, bool]]:
    """Stage, place within it, and whether TSM shifts there, of each block."""
    before = round_channels(encoder.settings.stem * encoder.width)
    for stage, (expansion, channels, repeats, stride) in enumerate(encoder.settings.blocks):
        features = round_channels(channels * encoder.width)
        for place in range(repeats):
            residual = (place > 0 or stride == 1) and features == before
            yield stage, place, residual and expansion > 1
            before = features


_REGISTERED: dict[type[nn.Module], Callable[[Any], tuple[Names, ...]]] = {
    ResNet: _resnet_names,
    MobileNetV2: lambda encoder: tuple(_mobilenet_v2_names(encoder)),
    X3D: lambda encoder: (Names(X3D_SLOWFAST, X3D_SLOWFAST_HEAD, starts_heads=True),),
}
"""Class of an encoder or a head to the names of its layers."""


def pretrained_heads(encoder: nn.Module, part: str) -> tuple[Rule, ...]:
    """Rows of the heads of ``part`` that start as the head that its encoder was trained with: X3D's alone."""
    rows = [row for names in encoder_names(encoder) if names.starts_heads for row in names.head]
    return tuple(row.within("", f"{head}/") for head in HEADS_OF[part] for row in rows)


def classifier_names(model: Any) -> Iterator[Names]:
    """Of a plain classifier: the encoder's code base has a head of its own, unless the head has names itself."""
    own = [row.within("", "classifier/") for row in _head_rules(model)]
    for names in encoder_names(model.encoder):
        head = own or [row.within("", "classifier/") for row in names.head]
        yield Names((*names.within("", "encoder/").rules, *head))


def release_names(model: Any, shapes: Collection[str]) -> Names:
    """The authors' names for a whole model of two encoders, and names in their manner for what they do not have.

    Args:
      model: says which encoders and head it has.
      shapes: the paths of its variables.
    """
    pooling = "params/classifier/glance_hidden/kernel" in shapes
    x3d_heads = "params/global_head/hidden/kernel" in shapes
    tables = [UNI_ADAFOCUS if pooling else UNI_ADAFOCUS_X3D if x3d_heads else UNI_ADAFOCUS_TSM]
    for part, name in ENCODERS.items():
        for head in HEADS_OF[part]:
            within = head.replace(part.removesuffix("_encoder"), name, 1)
            tables.insert(0, tuple(row.within(f"{within}.", f"{head}/") for row in _head_rules(model)))
        tables += [
            names.within(f"{name}.", f"{part}/").rules for names in encoder_names(getattr(model, part))[:1]
        ]
    return Names(tuple(itertools.chain(*tables)), UNI_ADAFOCUS_UNUSED if pooling else ())


def _head_rules(model: Any) -> tuple[Rule, ...]:
    kind: Any = model.head.func if isinstance(model.head, functools.partial) else model.head
    make = _REGISTERED.get(kind)
    return make(model.head(1))[0].rules if make else ()
