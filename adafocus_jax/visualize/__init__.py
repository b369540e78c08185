"""Pictures of what a model looked at: drawn as RGB ``uint8 [H, W, 3]`` arrays, written by ``files``."""

from typing import TYPE_CHECKING

from adafocus_jax.lazy import lazy_exports

if TYPE_CHECKING:
    from adafocus_jax.visualize.curves import Series as Series
    from adafocus_jax.visualize.curves import accuracy_cost as accuracy_cost
    from adafocus_jax.visualize.curves import class_scores as class_scores
    from adafocus_jax.visualize.curves import temporal_weights as temporal_weights
    from adafocus_jax.visualize.curves import training_curves as training_curves
    from adafocus_jax.visualize.files import write_mp4 as write_mp4
    from adafocus_jax.visualize.files import write_png as write_png
    from adafocus_jax.visualize.frames import contact_sheet as contact_sheet
    from adafocus_jax.visualize.gallery import validation_gallery as validation_gallery
    from adafocus_jax.visualize.overlay import write_overlay as write_overlay
    from adafocus_jax.visualize.pictures import PictureFolder as PictureFolder
    from adafocus_jax.visualize.report import write_report as write_report
    from adafocus_jax.visualize.run import read_run as read_run
    from adafocus_jax.visualize.run_report import run_report as run_report
    from adafocus_jax.visualize.strips import Strip as Strip
    from adafocus_jax.visualize.strips import draw_strips as draw_strips
    from adafocus_jax.visualize.timeline import timeline as timeline

__all__, __getattr__, __dir__ = lazy_exports(__name__, __file__)
