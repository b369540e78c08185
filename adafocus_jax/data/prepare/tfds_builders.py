"""Builders for TensorFlow Datasets, one per known data set, without TensorFlow.

Importing this module registers them::

    import tensorflow_datasets as tfds
    import adafocus_jax.data.prepare.tfds_builders

    if __name__ == "__main__":  # worker processes import this script, too
        builder = tfds.builder("adafocus_jester", data_dir="data", videos="20bn-jester-v1", annotations="lists")
        builder.download_and_prepare()  # resumes a run that was killed
        train = builder.as_data_source("train[:10%]")

They write what ``adafocus prepare`` writes, by the same code; to read it, TensorFlow Datasets suffices:
``tfds.data_source("adafocus_jester", data_dir="data")``.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import tensorflow_datasets as tfds
from tensorflow_datasets.core.dataset_builder import FileReaderBuilder

from adafocus_jax.data.datasets import DATASETS, DatasetSpec
from adafocus_jax.data.prepare.beam import make_on_beam
from adafocus_jax.data.prepare.prepare import prepare, tfds_name
from adafocus_jax.data.records.schema import is_complete
from adafocus_jax.errors import UserError


class VideoBuilder(FileReaderBuilder, skip_registration=True):  # type: ignore[call-arg]
    """Builds one data set; a subclass sets ``spec`` and ``name``."""

    VERSION = tfds.core.Version("1.0.0")
    spec: ClassVar[DatasetSpec]

    def __init__(
        self, *, data_dir: Any = None, config: Any = None, version: Any = None, **options: Any
    ) -> None:
        """``options``: those of ``prepare``; not needed to open prepared records."""
        self._options = options
        super().__init__(data_dir=data_dir, config=config, version=version, file_format="array_record")

    def __reduce__(self) -> tuple[Any, ...]:
        return _build, (self.spec.name, {**self._original_state, **self._options})

    def _info(self) -> tfds.core.DatasetInfo:
        # The features come with the folder: class names depend on the annotations.
        return tfds.core.DatasetInfo(
            builder=self,
            description=self.spec.title,
            citation=self.spec.citation,
            homepage=self.spec.homepage,
        )

    def download_and_prepare(
        self, *, download_config: tfds.download.DownloadConfig | None = None, **_: Any
    ) -> None:
        """Prepares ``data_dir``, or resumes; nothing is downloaded.

        With ``beam_runner`` or ``beam_options`` in ``download_config``, Apache Beam writes the shards.

        Raises:
          UserError: as ``prepare``.
        """
        if not is_complete(Path(self.data_dir)):
            self._download_and_prepare(None, download_config or tfds.download.DownloadConfig())

    def _download_and_prepare(self, dl_manager: Any, download_config: tfds.download.DownloadConfig) -> None:
        if not self._options:
            raise UserError(
                f"{self.data_dir} holds no records yet: give tfds.builder({self.name!r}, data_dir=..., "
                "videos=DIR, annotations=DIR), or run adafocus prepare"
            )
        runner, options = download_config.beam_runner, download_config.beam_options
        on_beam = partial(make_on_beam, runner=runner, options=options)
        prepare(self.spec.name, self.data_dir, **self._options, maker=on_beam if runner or options else None)
        self.info.read_from_directory(self.data_dir)


BUILDERS: dict[str, type[VideoBuilder]] = {
    spec.name: type(
        "".join(word.title() for word in tfds_name(spec.name).split("_")),
        (VideoBuilder,),
        {"__module__": __name__, "__doc__": spec.title, "name": tfds_name(spec.name), "spec": spec},
    )
    for spec in DATASETS.values()
}
"""The builder of each data set, by its name in this package."""


def _build(dataset: str, options: dict[str, Any]) -> VideoBuilder:
    return BUILDERS[dataset](**options)
