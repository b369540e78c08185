import numpy as np
import pytest

from adafocus_jax.visualize.strips import Strip, draw_strips


def colours(image: np.ndarray) -> set[tuple[int, ...]]:
    return {tuple(pixel) for pixel in image.reshape(-1, 3).tolist()}


@pytest.mark.parametrize(("height", "width"), [(20, 40), (600, 300), (1, 1)])
def test_every_frame_is_there_once(height, width):
    levels = np.arange(40, 220, 20)
    strips = [
        Strip("one $ and 二", [np.full((height, width, 3), (level, 0, 0), np.uint8) for level in levels[:6]]),
        Strip("x" * 200, [np.full((width, height, 3), (0, level, 0), np.uint8) for level in levels[6:]]),
    ]
    sheet = draw_strips(strips)
    assert sheet.shape[1:] == (960, 3)
    assert sheet.dtype == np.uint8
    assert {(level, 0, 0) for level in levels[:6]} | {(0, level, 0) for level in levels[6:]} <= colours(sheet)
    areas = [int((sheet == (level, 0, 0)).all(-1).sum()) for level in levels[:6]]
    assert len(set(areas)) == 1


def test_a_single_short_strip_has_its_text(tmp_path):
    frames = [np.zeros((30, 40, 3), np.uint8)]
    with_text, without = (draw_strips([Strip(text, frames)]) for text in ("walk", ""))
    assert with_text.shape == without.shape
    assert (with_text != without).any()
