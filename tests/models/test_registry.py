import json
from functools import partial

import jax
import numpy as np
import pytest

from adafocus_jax.errors import UserError
from adafocus_jax.flops import count_params
from adafocus_jax.models import create_model, init_variables


def shapes_of(model):
    return jax.eval_shape(partial(init_variables, model), jax.random.key(0))


@pytest.mark.parametrize(
    ("name", "classes"), [("uni_adafocus", 200), ("uni_adafocus_tsm", 174), ("uni_adafocus_x3d", 400)]
)
def test_parameters_are_those_of_the_authors(golden_dir, name, classes):
    # Their files also hold the ImageNet heads of both backbones, which the method does not use.
    unused = (
        "running_mean",
        "running_var",
        "num_batches_tracked",
        *(
            f"{net}_CNN.{head}.{kind}"
            for net in ("global", "local")
            for head in ("classifier", "fc")
            for kind in ("weight", "bias")
        ),
    )
    theirs = json.loads((golden_dir / f"{name}.state_dict.json").read_text())
    expected = sum(int(np.prod(shape)) for key, shape in theirs.items() if not key.endswith(unused))
    variables = shapes_of(create_model(name, num_classes=classes))
    assert count_params(variables["params"]) == expected
    statistics = sum(int(np.prod(shape)) for key, shape in theirs.items() if "running" in key)
    assert count_params(variables["batch_stats"]) == statistics


def test_trimmed_variants_take_three_candidates_per_focus_frame():
    counts = [
        create_model("uni_adafocus_tsm", num_classes=5, num_focus=f).num_candidates for f in (8, 12, 16)
    ]
    assert counts == [24, 36, 48]
    assert create_model("uni_adafocus_x3d", num_classes=5).num_candidates == 96
    assert create_model("uni_adafocus_tsm", num_classes=5, num_candidates=40).num_candidates == 40


def test_controls_have_the_parameters_of_the_whole_model():
    whole = shapes_of(create_model("uni_adafocus_tsm_tiny", num_classes=5))
    control = shapes_of(
        create_model("uni_adafocus_tsm_tiny", num_classes=5, spatial="centre", temporal="random")
    )
    assert jax.tree.structure(whole) == jax.tree.structure(control)
    assert shapes_of(create_model("two_stream_tsm", num_classes=5))["params"].keys() == {
        *("global_encoder", "global_head", "global_final_head"),
        *("local_encoder", "local_head", "local_final_head"),
    }


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("uni_adafocus_x3d", {"head": "mlp"}, "unknown head 'mlp': choose one of linear, x3d"),
        ("uni_adafocus_tsm", {"classifier_hidden": 8}, "unknown model argument 'classifier_hidden'"),
        ("tsm_resnet50", {"patch_size": 96}, "unknown model argument 'patch_size'"),
        ("tsm_resnet50", {"encoder": "vgg"}, "unknown encoder 'vgg': choose one of"),
        ("x3d_s", {"image_size": 0}, "image_size=0 must be at least 1"),
        ("uni_adafocus_tsm", {"num_candidates": 8}, "num_focus=12 exceeds num_candidates=8"),
    ],
)
def test_arguments_of_another_variant_are_refused(name, arguments, message):
    with pytest.raises(UserError, match=message):
        create_model(name, num_classes=5, **arguments)
