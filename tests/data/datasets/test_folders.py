import pytest

from adafocus_jax.data.datasets import read_dataset
from adafocus_jax.errors import UserError


def test_violence(made):
    made.touch(*(f"{name}/{name[0]}V_{i}.mp4" for name in ("Violence", "NonViolence") for i in range(5)))
    table = read_dataset("violence", made.videos, val_fraction=0.2, seed=1)
    assert table.classes == ("NonViolence", "Violence")
    assert {split: len(entries) for split, entries in table.splits.items()} == {"train": 8, "val": 2}
    assert not table.missing
    made.write(train_list__txt="V_1 0\n".replace("V_1", "VV_1"), classInd__txt="NonViolence\nViolence")
    assert made.found(made.read("violence")) == {"train": [("Violence/VV_1.mp4", (0,))]}
    made.touch("other/x.mp4")
    with pytest.raises(UserError, match="holds NonViolence, Violence, other: give the folder"):
        read_dataset("violence", made.videos)


def test_mri_folders_split_by_patient(made):
    scans = [
        f"{group}/sub-{group[0]}{i}/ses-{s}.nii.gz"
        for group in ("ill", "well")
        for i in range(4)
        for s in "12"
    ]
    made.touch(*scans, "well/sub-w9_T1w.nii", "well/sub-w9_T2w.nii")
    table = read_dataset("mri", made.videos, val_fraction=0.4)
    assert table.classes == ("ill", "well")
    assert sum(map(len, table.splits.values())) == len(scans) + 2
    patients = {
        split: {entry.name[: entry.name.index("sub-") + 6] for entry in entries}
        for split, entries in table.splits.items()
    }
    assert len(patients["val"]) == 4
    assert not patients["train"] & patients["val"]


def test_mri_table(made):
    made.touch("1.nii", "2.nii.gz", "3.nii")
    head = "path,label,patient,split\n"
    made.write(scans__csv=head + "1.nii,ill,p1,train\n2,well,p2,test\n3.nii,ill,p1,\n4.nii,ill,p4,train")
    table = made.read("mri")
    assert made.found(table) == {"train": [("1.nii", (0,)), ("3.nii", (0,))], "val": [("2.nii.gz", (1,))]}
    assert table.missing == {"train": ["4.nii"]}
    with pytest.raises(UserError, match="is of the split test already: drop `val_fraction`"):
        made.read("mri", val_fraction=0.5)
    made.write(scans__csv=head + "1.nii,ill,p1,train\n2,ill,p1,val")
    with pytest.raises(UserError, match="line 3: patient p1 is in two splits, train and val"):
        made.read("mri")
    made.write(scans__csv="path,label\n1.nii,ill")
    with pytest.raises(UserError, match=r"line 2: not in the official form \(KeyError\('patient'\)\)"):
        made.read("mri")


def test_custom(made):
    made.touch("run/a.mp4", "walk/b/img_1.jpg", "walk/b/img_2.jpg")
    assert made.found(read_dataset("custom", made.videos)) == {
        "train": [("run/a.mp4", (0,)), ("walk/b", (1,))]
    }
    made.write(list__txt="walk/b,walk\nrun/a.mp4,run", classes__txt="walk\nrun")
    table = read_dataset(
        "custom", made.videos, made.notes / "list.txt", classes_file=made.notes / "classes.txt"
    )
    assert made.found(table) == {"train": [("walk/b", (0,)), ("run/a.mp4", (1,))]}
    made.write(train_split__txt="b,2,1", val_split__txt="a,9,0")
    assert made.found(made.read("custom")) == {
        "train": [("walk/b", (1,))],
        "val": [("run/a.mp4", (0,))],
    }
    (made.notes / "classes.txt").unlink()
    with pytest.raises(UserError, match="has no class file"):
        made.read("custom")
