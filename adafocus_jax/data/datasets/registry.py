"""The data sets by name."""

from __future__ import annotations

import difflib
import re

from adafocus_jax.data.datasets import folders, numbered, twentybn, youtube
from adafocus_jax.data.datasets.spec import DatasetSpec
from adafocus_jax.errors import UserError

_SOMETHING = """@inproceedings{goyal2017something,
  title={The "Something Something" Video Database for Learning and Evaluating Visual Common Sense},
  author={Goyal, Raghav and Ebrahimi Kahou, Samira and Michalski, Vincent and others},
  booktitle={ICCV}, pages={5842--5850}, year={2017}}"""

_SPECS = (
    DatasetSpec(
        name="activitynet",
        title="ActivityNet 1.3",
        num_classes=200,
        metric="mAP",
        max_labels=3,
        flip=True,
        relabel=False,
        citation="""@inproceedings{heilbron2015activitynet,
  title={ActivityNet: A Large-Scale Video Benchmark for Human Activity Understanding},
  author={Caba Heilbron, Fabian and Escorcia, Victor and Ghanem, Bernard and Niebles, Juan Carlos},
  booktitle={CVPR}, pages={961--970}, year={2015}}""",
        homepage="http://activity-net.org",
        files="activity_net.v1-3.min.json",
        read=youtube.read_activitynet,
        fps=4.0,  # minutes long
    ),
    DatasetSpec(
        name="fcvid",
        title="FCVID",
        num_classes=239,
        metric="mAP",
        max_labels=3,
        flip=True,
        relabel=False,
        citation="""@article{jiang2018exploiting,
  title={Exploiting Feature and Class Relationships in Video Categorization with Regularized Deep Neural Networks},
  author={Jiang, Yu-Gang and Wu, Zuxuan and Wang, Jun and Xue, Xiangyang and Chang, Shih-Fu},
  journal={IEEE Transactions on Pattern Analysis and Machine Intelligence},
  volume={40}, number={2}, pages={352--364}, year={2018}}""",
        homepage="https://fvl.fudan.edu.cn/dataset/fcvid/list.htm",
        files="FCVID_VideoName_TrainTestSplit.txt and FCVID_Label.txt",
        read=numbered.read_fcvid,
        fps=4.0,  # minutes long
    ),
    DatasetSpec(
        name="mini_kinetics",
        title="Mini-Kinetics",
        num_classes=200,
        metric="top1",
        max_labels=1,
        flip=True,
        relabel=False,
        citation="""@inproceedings{xie2018rethinking,
  title={Rethinking Spatiotemporal Feature Learning: Speed-Accuracy Trade-offs in Video Classification},
  author={Xie, Saining and Sun, Chen and Huang, Jonathan and Tu, Zhuowen and Murphy, Kevin},
  booktitle={ECCV}, pages={305--321}, year={2018}}""",
        homepage="https://github.com/s9xie/Mini-Kinetics-200",
        files="train_ytid_list.txt and val_ytid_list.txt with the CSV files of Kinetics-400",
        read=youtube.read_mini_kinetics,
    ),
    DatasetSpec(
        name="something_v1",
        title="Something-Something V1",
        num_classes=174,
        metric="top1",
        max_labels=1,
        flip=False,
        relabel=True,
        citation=_SOMETHING,
        homepage="https://www.qualcomm.com/developer/software/something-something-v-2-dataset",
        files="something-something-v1-labels.csv, -train.csv and -validation.csv",
        read=twentybn.read_semicolons,
        fps=12.0,  # the rate of their frames
    ),
    DatasetSpec(
        name="something_v2",
        title="Something-Something V2",
        num_classes=174,
        metric="top1",
        max_labels=1,
        flip=False,
        relabel=True,
        citation=_SOMETHING,
        homepage="https://www.qualcomm.com/developer/software/something-something-v-2-dataset",
        files="something-something-v2-labels.json, -train.json and -validation.json",
        read=twentybn.read_templates,
        fps=12.0,  # the rate of their frames
    ),
    DatasetSpec(
        name="jester",
        title="Jester",
        num_classes=27,
        metric="top1",
        max_labels=1,
        flip=False,
        relabel=False,
        citation="""@inproceedings{materzynska2019jester,
  title={The Jester Dataset: A Large-Scale Video Dataset of Human Gestures},
  author={Materzynska, Joanna and Berger, Guillaume and Bax, Ingo and Memisevic, Roland},
  booktitle={ICCV Workshops}, year={2019}}""",
        homepage="https://www.qualcomm.com/developer/software/jester-dataset",
        files="jester-v1-labels.csv, -train.csv and -validation.csv",
        read=twentybn.read_semicolons,
        fps=12.0,  # the rate of their frames
    ),
    DatasetSpec(
        name="kinetics400",
        title="Kinetics-400",
        num_classes=400,
        metric="top1",
        max_labels=1,
        flip=True,
        relabel=False,
        citation="""@article{kay2017kinetics,
  title={The Kinetics Human Action Video Dataset},
  author={Kay, Will and Carreira, Joao and Simonyan, Karen and Zhang, Brian and Hillier, Chloe and others},
  journal={arXiv preprint arXiv:1705.06950}, year={2017}}""",
        homepage="https://github.com/cvdfoundation/kinetics-dataset",
        files="train.csv and val.csv (or train.json and val.json)",
        read=youtube.read_kinetics,
    ),
    DatasetSpec(
        name="diving48",
        title="Diving48",
        num_classes=48,
        metric="top1",
        max_labels=1,
        flip=True,
        relabel=False,
        citation="""@inproceedings{li2018resound,
  title={RESOUND: Towards Action Recognition without Representation Bias},
  author={Li, Yingwei and Li, Yi and Vasconcelos, Nuno},
  booktitle={ECCV}, pages={513--528}, year={2018}}""",
        homepage="http://www.svcl.ucsd.edu/projects/resound/dataset.html",
        files="Diving48_vocab.json, Diving48_V2_train.json and Diving48_V2_test.json",
        read=numbered.read_diving48,
        fps=16.0,  # what counts is over in seconds
    ),
    DatasetSpec(
        name="mri",
        title="brain MRI volumes",
        num_classes=None,
        metric="mAP",  # diagnoses are unbalanced
        max_labels=1,
        flip=False,
        relabel=False,
        citation="",
        homepage="https://nifti.nimh.nih.gov",
        files="a CSV file with the head path,label,patient,split",
        read=folders.read_mri,
        fps=None,  # all slices
    ),
    DatasetSpec(
        name="violence",
        title="Real Life Violence Situations",
        num_classes=2,
        metric="top1",
        max_labels=1,
        flip=True,
        relabel=False,
        citation="""@inproceedings{soliman2019violence,
  title={Violence Recognition from Videos using Deep Learning Techniques},
  author={Soliman, Mohamed Mostafa and Kamal, Mohamed Hussein and Nashed, Mina Abd El-Massih and
    Mostafa, Youssef Mohamed and Chawky, Bassel Safwat and Khattab, Dina},
  booktitle={ICICIS}, pages={80--85}, year={2019}}""",
        homepage="https://www.kaggle.com/datasets/mohamedmustafa/real-life-violence-situations-dataset",
        files="the folders NonViolence and Violence",
        read=folders.read_violence,
    ),
    DatasetSpec(
        name="custom",
        title="videos of one's own",
        num_classes=None,
        metric="top1",
        max_labels=3,
        flip=True,
        relabel=False,
        citation="",
        homepage="",
        files="a list of path,label lines",
        read=folders.read_custom,
    ),
)

DATASETS: dict[str, DatasetSpec] = {spec.name: spec for spec in _SPECS}
"""The data sets by name."""


def register_dataset(spec: DatasetSpec) -> DatasetSpec:
    """Adds a data set: ``adafocus prepare NAME`` and ``base_config(dataset=NAME)`` know it from then on.

    Raises:
      UserError: another one has the name, or it does not serve as part of file names.
    """
    if not re.fullmatch("[a-z][a-z0-9_]*", spec.name):
        raise UserError(f"data set {spec.name!r}: give a name of small letters, digits and underscores")
    known = DATASETS.get(spec.name)
    # A module may be run twice, as a config file and as a plugin.
    if known is not None and (known.title, known.read.__qualname__) != (spec.title, spec.read.__qualname__):
        raise UserError(f"there is a data set {spec.name!r} already ({known.title}): choose another name")
    DATASETS[spec.name] = spec
    return spec


def dataset_spec(name: str) -> DatasetSpec:
    """The data set of that name.

    Raises:
      UserError: there is none.
    """
    if name not in DATASETS:
        close = difflib.get_close_matches(name, DATASETS, 1)
        hint = f"did you mean {close[0]!r}?" if close else f"choose from {', '.join(DATASETS)}"
        raise UserError(f"unknown data set {name!r}: {hint}")
    return DATASETS[name]
