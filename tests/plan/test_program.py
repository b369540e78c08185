import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.sharding import Mesh, PartitionSpec

from adafocus_jax.ops.patch_crop import crop_patches
from adafocus_jax.plan.program import Collective, collectives, large_gathers, loops

TPU_TEXT = """\
  %all-reduce.220 = (f32[3,200]{1,0:T(4,128)S(1)}, bf16[64]{0:T(128)S(1)}, /*index=5*/f32[]{:T(128)}) all-reduce(%a)
  %all-gather-start.1 = (f32[8]{0:T(128)}, f32[32]{0:T(128)}) all-gather-start(%p.1), dimensions={0}
  %all-gather-done.1 = f32[32]{0:T(128)} all-gather-done(%all-gather-start.1)
  ROOT %collective-permute.2 = u8[10]{0:T(128)(4,1)} collective-permute(%x), source_target_pairs={{0,1}}
  %while.3 = (s32[], f32[4]) while(%t), condition=%c, body=%b, backend_config={"known_trip_count":{"n":"4"}}
  %fusion.9 = f32[4]{0} fusion(%all-reduce.220), kind=kLoop, calls=%c
"""


def test_collectives_of_a_tpu_program():
    assert collectives(TPU_TEXT) == {
        "all-gather": Collective(1, 128),
        "all-reduce": Collective(1, 4 * 600 + 2 * 64 + 4),
        "collective-permute": Collective(1, 10),
    }
    assert loops(TPU_TEXT) == [4]


def test_collectives_of_a_compiled_program():
    mesh = Mesh(np.array(jax.devices()), ("d",))

    def mean(x):
        return lax.pmean(x, "d"), lax.all_gather(x, "d")

    spec = PartitionSpec("d")
    mapped = jax.shard_map(mean, mesh=mesh, in_specs=spec, out_specs=(PartitionSpec(), spec), check_vma=False)
    text = jax.jit(mapped).lower(jax.ShapeDtypeStruct((8, 5), jnp.float32)).compile().as_text()
    devices = len(jax.devices())
    share = 8 // devices * 5 * 4
    assert collectives(text) == {
        "all-gather": Collective(1, share * devices),
        "all-reduce": Collective(1, share),
    }


def _hlo(function, *shapes):
    return jax.jit(function).lower(*(jax.ShapeDtypeStruct(*shape) for shape in shapes)).as_text("hlo")


@pytest.mark.parametrize(("method", "count"), [("gather", 4), ("matrix", 0)])
def test_a_crop_by_gather_is_found_and_one_by_matrices_is_clean(method, count):
    text = _hlo(
        lambda images, boxes: crop_patches(images, boxes, 128, method),
        ((8, 160, 160, 3), jnp.float32),
        ((8, 4), jnp.float32),
    )
    found = large_gathers(text)
    assert [gather.of_pixels for gather in found] == [True] * count
    assert all(gather.bytes == 8 * 128 * 128 * 3 * 4 for gather in found)


def test_frames_taken_whole_are_no_pixels():
    def take(frames, indices):
        return jnp.take_along_axis(frames, indices[:, :, None, None, None], axis=1, mode="promise_in_bounds")

    (found,) = large_gathers(_hlo(take, ((2, 9, 224, 224, 3), jnp.uint8), ((2, 4), jnp.int32)))
    assert (found.operand, found.result) == ("u8[2,9,224,224,3]", "u8[2,4,224,224,3]")
    assert (found.bytes, found.slice_size) == (2 * 4 * 224 * 224 * 3, 224 * 224 * 3)
    assert not found.of_pixels


def test_a_gather_says_where_it_stands():
    line = '%gather.1 = f32[512,1024]{1,0:T(8,128)} gather(%p, %i), slice_sizes={1}, metadata={op_name="jit(f)/look"}'
    (found,) = large_gathers(line)
    assert (found.operand, found.place, found.of_pixels) == ("?", "jit(f)/look", True)


def test_small_gathers_are_left_out():
    assert not large_gathers(_hlo(lambda x, i: x[i], ((64, 64), jnp.float32), ((32,), jnp.int32)))
