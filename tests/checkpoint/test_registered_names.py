"""An encoder and a head of one's own: chosen by name, and converted by names of their own."""

import jax
import numpy as np
import pytest
from flax import linen as nn
from flax.traverse_util import flatten_dict

from adafocus_jax.checkpoint import (
    CONV,
    LINEAR,
    Names,
    Rule,
    convert_state_dict,
    register_names,
    rules,
    to_state_dict,
)
from adafocus_jax.errors import UserError
from adafocus_jax.flops import model_cost
from adafocus_jax.models import ENCODERS, HEADS, create_model, init_variables, register_encoder, register_head
from adafocus_jax.models.layers import BatchNorm, Conv, Dense, FrameEncoder, pool_frames


class Stem(FrameEncoder):
    @nn.compact
    def __call__(self, frames, train):
        x = Conv(8, 3, 4, dtype=self.dtype, name="conv")(frames)
        return pool_frames(nn.relu(self.norm(dtype=self.dtype, name="bn")(x, train)))


class TwoLayers(nn.Module):
    num_classes: int
    dropout: float = 0.0

    @nn.compact
    def __call__(self, features, keys, train):
        return Dense(self.num_classes, name="logits")(nn.relu(Dense(6, name="hidden")(features)))


@pytest.fixture(scope="module", autouse=True)
def _registered():
    register_encoder("stem", Stem)
    register_head("two_layers", TwoLayers)
    register_names(Stem, lambda _: (Names((Rule("net.0", "conv", CONV), Rule("net.1", "bn"))),))
    register_names(TwoLayers, lambda _: (Names((Rule("0", "hidden", LINEAR), Rule("2", "logits", LINEAR))),))
    yield
    del ENCODERS["stem"], HEADS["two_layers"], rules._REGISTERED[Stem], rules._REGISTERED[TwoLayers]


@pytest.mark.parametrize(
    ("name", "encoders", "some"),
    [
        ("tsm_tiny", ("encoder",), {"net.0.weight", "net.1.running_var", "2.bias"}),
        (
            "uni_adafocus_tiny",
            ("global_encoder", "local_encoder"),
            {"global_CNN.net.0.weight", "local_CNN_head.2.bias", "classifier.global_mlp.layers.0.weight"},
        ),
        (
            "uni_adafocus_tsm_tiny",
            ("global_encoder", "local_encoder"),
            {"local_CNN.net.1.weight", "global_CNN_head.0.weight", "global_CNN_final_head.2.bias"},
        ),
    ],
)
def test_a_model_of_registered_parts_is_counted_and_converted_by_its_own_names(name, encoders, some):
    model = create_model(name, num_classes=5, head="two_layers", **dict.fromkeys(encoders, "stem"))
    variables = init_variables(model, jax.random.key(0))
    tensors = to_state_dict(variables, model)
    assert some <= tensors.keys()
    back = flatten_dict(convert_state_dict(tensors, model), sep="/")
    for path, array in flatten_dict(variables, sep="/").items():
        np.testing.assert_array_equal(back[path], array, err_msg=path)
    cost = model_cost(model)
    assert min(cost.parts[encoder] for encoder in encoders) > 0
    assert cost.params == sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))


def test_a_state_dict_of_a_registered_encoder_goes_into_its_part():
    model = create_model("tsm_tiny", num_classes=5, encoder="stem")
    kernel = np.random.default_rng(0).standard_normal((8, 3, 3, 3)).astype(np.float32)
    vector = np.ones(8, np.float32)
    names = ("weight", "bias", "running_mean", "running_var")
    tensors = {"net.0.weight": kernel, **{f"net.1.{name}": vector for name in names}}
    found = convert_state_dict(tensors, model, part="encoder")
    np.testing.assert_array_equal(found["params"]["encoder"]["conv"]["kernel"], kernel.transpose(2, 3, 1, 0))


def test_a_name_or_a_class_is_registered_once():
    with pytest.raises(
        UserError, match="encoder 'resnet50' is registered already: choose a name other than mobil"
    ):
        register_encoder("resnet50", Stem)
    with pytest.raises(UserError, match="head 'linear' is registered already"):
        register_head("linear", TwoLayers)
    with pytest.raises(UserError, match="names of Stem are registered already"):
        register_names(Stem, lambda _: ())
    register_encoder("stem", Stem)  # as a plugin that is imported twice does
    assert BatchNorm not in rules._REGISTERED
