"""What ``adafocus prepare --help`` says around the flags."""

from adafocus_jax.data.datasets import DATASETS

DESCRIPTION = f"""\
Converts videos into sharded records, which train and evaluate read.

Known data sets, by name, from their videos (or folders of frames) and their official annotation files:
  {" ".join(name for name in DATASETS if name != "custom")}
Your own: SRC is a folder with one sub-folder of videos per class (perhaps below train/ and val/), or a list file with
a line path,label[,label...] per video (comma, semicolon, space or tab; labels as numbers from 0 or as names of
--classes). A folder that has the name of a data set is ./NAME.

Run the same command again to resume a run that was stopped. Videos that do not decode are listed with the reason in
OUT/skipped.csv, annotated videos that are missing in OUT/missing.csv; adafocus inspect OUT verifies the result. The
records also open as tfds.builder_from_directory(OUT), and as tfds.data_source("adafocus_DATASET", data_dir=DIR)
where OUT is DIR/adafocus_DATASET/1.0.0."""

EPILOG = """\
examples:
  adafocus prepare videos/ records/ --val-fraction 0.1
  adafocus prepare train.csv records/ --classes classes.txt --videos videos/ --val-src val.csv
  adafocus prepare something_v1 --videos 20bn-something-something-v1/ --annotations lists/ records/

on several machines (a Slurm array, the workers of a TPU slice) that all see the videos and write to one folder, or to
folders that are later copied into one, .prepare included; or to a bucket, where each shard is moved when it is whole:
  adafocus prepare kinetics400 --videos k400/ --annotations k400/lists/ records/ --shard $SLURM_ARRAY_TASK_ID/64
  adafocus prepare --finalize records/            # once, when all 64 are done
  adafocus prepare kinetics400 --videos k400/ --annotations k400/lists/ gs://bucket/records --shard $TPU_WORKER_ID/16

on Apache Beam, whose workers must see the same folders and have this package (pip install 'adafocus_jax[beam]'):
  adafocus prepare kinetics400 --videos k400/ --annotations k400/lists/ records/ --beam='--runner=FlinkRunner'"""
