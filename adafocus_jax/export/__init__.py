"""A checkpoint as files that other programs run: ONNX models, or programs of JAX without this package's models.

``load`` needs neither Flax nor the models, so that it works where they are not installed.
"""

from typing import TYPE_CHECKING

from adafocus_jax.lazy import lazy_exports

if TYPE_CHECKING:
    from adafocus_jax.export.exported_model import ExportedModel as ExportedModel
    from adafocus_jax.export.exported_model import load as load
    from adafocus_jax.export.files import read_manifest as read_manifest
    from adafocus_jax.export.jax_programs import export_jax as export_jax
    from adafocus_jax.export.onnx_models import export_onnx as export_onnx

__all__, __getattr__, __dir__ = lazy_exports(__name__, __file__)
