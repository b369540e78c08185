import importlib.util
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
import tensorflow_datasets as tfds

from adafocus_jax.data.datasets import DATASETS
from adafocus_jax.data.prepare.beam import make_on_beam
from adafocus_jax.data.prepare.prepare import prepare
from adafocus_jax.data.prepare.tfds_builders import BUILDERS
from adafocus_jax.errors import UserError

HAS_BEAM = importlib.util.find_spec("apache_beam") is not None
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def options(jester) -> dict:
    lists = jester / "lists"
    return {"videos": jester / "videos", "annotations": lists, "size": 8, "max_missing": 1, "workers": 0}


@pytest.fixture(scope="module")
def data_dir(options, tmp_path_factory) -> Path:
    """Jester as its builder prepares it."""
    data_dir = tmp_path_factory.mktemp("data")
    tfds.builder("adafocus_jester", data_dir=data_dir, **options).download_and_prepare()
    return data_dir


def files(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in out.iterdir() if path.is_file()}


@pytest.mark.parametrize("name", DATASETS)
def test_every_data_set_has_a_builder(name, tmp_path):
    registered = "videos" if name == "custom" else f"adafocus_{name}"
    builder = tfds.builder(registered, data_dir=tmp_path)
    assert type(builder) is BUILDERS[name]
    assert builder.info.citation == DATASETS[name].citation
    with pytest.raises(
        UserError, match=rf"no records yet: give tfds.builder\('{registered}', data_dir=..., vid"
    ):
        builder.download_and_prepare()


def test_a_builder_writes_what_the_command_writes(data_dir, options, tmp_path):
    prepare("jester", tmp_path, **options)
    assert files(data_dir / "adafocus_jester" / "1.0.0") == files(tmp_path)


def test_what_it_wrote_opens_in_every_way(data_dir):
    place = data_dir / "adafocus_jester" / "1.0.0"
    builder = tfds.builder("adafocus_jester", data_dir=data_dir)
    builder.download_and_prepare()  # changes nothing
    again = pickle.loads(pickle.dumps(builder))
    sources = [
        builder.as_data_source("train"),
        again.as_data_source("train"),
        tfds.builder_from_directory(place).as_data_source("train"),
        tfds.data_source("adafocus_jester", data_dir=data_dir, split="train"),
    ]
    for source in sources:
        assert sorted(record["name"] for record in source) == [b"%d" % (100 + i) for i in range(6)]
    assert len(tfds.data_source("adafocus_jester", data_dir=data_dir, split="train[:50%]")) == 3
    info = builder.info
    assert {name: split.num_examples for name, split in info.splits.items()} == {"train": 6, "val": 1}
    assert info.features["labels"].feature.names[:2] == ["Gesture 00", "Gesture 01"]
    assert (info.homepage, info.metadata["flip"]) == (DATASETS["jester"].homepage, False)


def test_others_need_nothing_of_ours(data_dir):
    code = (
        "import sys, tensorflow_datasets as tfds\n"
        "source = tfds.data_source('adafocus_jester', data_dir=sys.argv[1], split='val[:100%]')\n"
        "assert source[0]['name'] == b'106'\n"
        "assert not {'tensorflow', 'adafocus_jax'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code, str(data_dir)], check=True, cwd="/", timeout=60)


def test_a_killed_preparation_goes_on(options, tmp_path):
    """The folder of a builder is the folder of the work: TFDS's own would begin in a new one."""
    builder = tfds.builder("adafocus_jester", data_dir=tmp_path, **options)
    prepare("jester", builder.data_dir, **options, part=(0, 2))
    (shard,) = Path(builder.data_dir).glob("*array_record*")
    stamp = shard.stat().st_mtime_ns
    builder.download_and_prepare()
    assert shard.stat().st_mtime_ns == stamp
    assert len(builder.as_data_source("val")) == 1


@pytest.mark.skipif(HAS_BEAM, reason="Apache Beam is installed")
def test_without_beam(options, tmp_path):
    builder = tfds.builder("adafocus_jester", data_dir=tmp_path, **options)
    with pytest.raises(UserError, match="Apache Beam is not installed: pip install"):
        builder.download_and_prepare(download_config=tfds.download.DownloadConfig(beam_runner="DirectRunner"))


@pytest.mark.skipif(not HAS_BEAM, reason="Apache Beam is not installed: pip install 'adafocus_jax[beam]'")
@pytest.mark.filterwarnings("ignore")  # Beam's own, of many kinds
def test_beam_makes_the_same(data_dir, options, tmp_path):
    builder = tfds.builder("adafocus_jester", data_dir=tmp_path, **options)
    builder.download_and_prepare(download_config=tfds.download.DownloadConfig(beam_runner="DirectRunner"))
    assert files(Path(builder.data_dir)) == files(data_dir / "adafocus_jester" / "1.0.0")


@pytest.mark.skipif(not HAS_BEAM, reason="Apache Beam is not installed: pip install 'adafocus_jax[beam]'")
@pytest.mark.filterwarnings("ignore")  # Beam's own, of many kinds
def test_beam_takes_options_as_flags(options, tmp_path):
    flags = ["--runner=DirectRunner", "--direct_num_workers=2", "--direct_running_mode=multi_threading"]
    summary = prepare("jester", tmp_path, **options, maker=lambda jobs: make_on_beam(jobs, options=flags))
    assert summary.complete
