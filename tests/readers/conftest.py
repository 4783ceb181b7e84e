"""Miniatures of folders: each writer makes a whole layout in a few files of a few kilobytes."""

import dataclasses
import json

import nibabel
import numpy as np
import pytest
from PIL import Image

SHAPE, SPACING = (40, 36, 5), (1.0, 1.0, 4.0)  # (X, Y, Z) in LPS order, mm


def ball(centre=(17.3, 20.6, 2.0), radius=9.0, shape=SHAPE, spacing=SPACING, seed=0):
    """Image with soft edges and labels (X, Y, Z), of a ball whose centre is given in voxels, LPS order."""
    places = [np.arange(n, dtype=float) for n in shape]
    grid = np.meshgrid(*places, indexing="ij")
    away = np.sqrt(sum(((x - c) * s) ** 2 for x, c, s in zip(grid, centre, spacing, strict=True)))
    image = np.clip(radius - away + 0.5, 0, 1)
    if seed is not None:
        image = image + np.random.default_rng(seed).normal(0, 0.001, shape)
    return image.astype(np.float32), (away <= radius).astype(np.uint8)


def nifti(path, values, axes="LPS", spacing=SPACING, origin=(5.0, -7.0, 11.0), **changes):
    """Write values given in LPS order as a file whose axes run along `axes`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    affine = np.diag([-spacing[0], -spacing[1], spacing[2], 1.0])
    affine[:3, 3] = origin
    orient = nibabel.orientations
    turn = orient.ornt_transform(orient.axcodes2ornt("LPS"), orient.axcodes2ornt(axes))
    image = nibabel.Nifti1Image(values, affine).as_reoriented(turn)
    image.set_qform(image.affine, changes.get("qform_code", 1))
    image.set_sform(image.affine, changes.get("sform_code", 1))
    nibabel.save(image, path)
    return path


def png(path, values):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values).save(path)
    return path


def nnunet(root, cases=("p1", "p2"), *, channels=1, axes="LPS", labels=None, end="Tr", described=True, **how):
    """imagesTr, labelsTr and dataset.json; each case has a ball of another seed."""
    for seed, case in enumerate(cases):
        image, drawn = ball(seed=seed + 100 * (end == "Ts"), **how)
        for channel in range(channels):
            nifti(root / f"images{end}" / f"{case}_{channel:04d}.nii.gz", image * (channel + 1), axes)
        nifti(root / f"labels{end}" / f"{case}.nii.gz", drawn, axes)
    if described:
        labels = labels or {"background": 0, "ball": 1}
        (root / "dataset.json").write_text(json.dumps({"name": "Balls", "labels": labels}))
    return root


def bids(root, subjects=("01", "02"), *, suffixes=("T1w",), raters=("",), sessions=("",)):
    """sub-*/[ses-*/]anat and derivatives/manual, with participants.tsv and dseg.tsv."""
    for seed, subject in enumerate(subjects):
        for number, session in enumerate(sessions):
            image, drawn = ball(seed=10 * seed + number)
            where = "/".join([f"sub-{subject}", *([f"ses-{session}"] if session else []), "anat"])
            stem = "_".join([f"sub-{subject}", *([f"ses-{session}"] if session else [])])
            for channel, suffix in enumerate(suffixes):
                nifti(root / where / f"{stem}_{suffix}.nii.gz", image * (1 + channel))
            for rater in raters:
                desc = f"_desc-{rater}" if rater else ""
                nifti(root / "derivatives/manual" / where / f"{stem}{desc}_dseg.nii.gz", drawn)
    rows = [f"sub-{subject}\t{'north' if k % 2 else 'south'}" for k, subject in enumerate(subjects)]
    (root / "participants.tsv").write_text("\n".join(["participant_id\tsite", *rows]) + "\n")
    (root / "derivatives/manual/dseg.tsv").write_text("index\tname\n1\tball\n")
    return root


def table(root, rows, columns="image,label,subject,domain", name="files.csv"):
    root.mkdir(parents=True, exist_ok=True)
    (root / name).write_text("\n".join([columns, *rows]) + "\n")
    return root


def pictures(root, names=("a", "b"), *, value=255, size=(20, 24), colours=False, rows=True):
    """Two PNG files per name: noise, and a square of one label value."""
    for name in names:
        rng = np.random.default_rng(list(name.encode()))
        shape = (*size, 3) if colours else size
        png(root / f"{name}.png", rng.integers(0, 255, shape, np.uint8))
        mask = np.zeros(size, np.uint8)
        mask[4:9, 6:12] = value
        png(root / f"{name}_mask.png", mask)
    lines = [f"{name}.png,{name}_mask.png,subject {name},scanner {name}" for name in names]
    return table(root, lines) if rows else root


@dataclasses.dataclass(frozen=True)
class Writers:
    ball = staticmethod(ball)
    nifti = staticmethod(nifti)
    png = staticmethod(png)
    nnunet = staticmethod(nnunet)
    bids = staticmethod(bids)
    table = staticmethod(table)
    pictures = staticmethod(pictures)


@pytest.fixture
def write():
    return Writers()
