"""Shards written by Apache Beam (Dataflow, Flink, Spark, local), for data sets too large for one machine."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from adafocus_jax.data.prepare.shards import ShardJob
from adafocus_jax.errors import UserError


def make_on_beam(jobs: Sequence[ShardJob], *, runner: Any = None, options: Any = None) -> None:
    """Writes the shards in a Beam pipeline, one job per element, and waits until it has finished.

    A job that Beam retries, or gives to two workers, still writes its shard once. Workers need this package, and the
    folders of videos and records under the same paths, or records in a bucket.

    Args:
      jobs: the shards to make.
      runner: what ``beam.Pipeline`` takes; None: the one in ``options``, or Beam's local one.
      options: pipeline options: a list of flags, or Beam's ``PipelineOptions``.

    Raises:
      UserError: Apache Beam is not installed.
    """
    try:
        import apache_beam as beam
        from apache_beam.options.pipeline_options import PipelineOptions
    except ImportError as error:
        raise UserError("Apache Beam is not installed: pip install 'adafocus_jax[beam]'") from error
    if not isinstance(options, PipelineOptions):
        options = PipelineOptions(list(options or ()))
    with beam.Pipeline(runner, options) as pipeline:
        # Without the reshuffle, runners that fuse steps would give all jobs to one worker.
        _ = pipeline | beam.Create(list(jobs)) | beam.Reshuffle() | beam.Map(_make)


def _make(job: ShardJob) -> None:
    for _ in job.make():
        pass
