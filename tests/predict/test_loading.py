import numpy as np

from adafocus_jax.config import base_config, check_config, open_split
from adafocus_jax.data.prepare.prepare import prepare
from adafocus_jax.data.records.remote import RemoteSource
from adafocus_jax.visualize.files import write_mp4


def test_the_settings_say_where_remote_records_are_kept(tmp_path):
    for name in ("a", "b"):
        write_mp4(tmp_path / "videos" / name / "0.mp4", [np.zeros((16, 16, 3), np.uint8)] * 3, 10)
    prepare(tmp_path / "videos", tmp_path / "records", size=16, workers=0)
    address = f"file://{tmp_path}/records"
    flags = [f"--config.data.dir={address}", f"--config.data.cache_dir={tmp_path}/cache"]
    data = check_config(base_config(), flags)["data"]
    assert data["dir"] == address, "an address is no path"
    source = open_split(data, "train")
    assert isinstance(source, RemoteSource)
    assert sorted(source[index].name for index in range(2)) == ["a/0.mp4", "b/0.mp4"]
    assert len(list((tmp_path / "cache").glob("records-*/*array_record*"))) == 1
    assert len(open_split(data, "train", str(tmp_path / "videos"))) == 2
