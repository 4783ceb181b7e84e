"""Miniatures of stored predictions, laid out as nnU-Net v2 writes them."""

import json

import nibabel
import numpy as np
import pytest

SHAPE, SPACING = (4, 12, 14), (5.0, 1.5, 1.0)  # slices, rows, columns, and their spacing in mm
LPS = np.diag([-1.0, -1.5, 5.0, 1.0])  # columns to the left, rows to the back, slices to the head
NAMES = {"background": 0, "ring": 1, "core": 2}


def labels_of(seed=0, shift=0):
    """(S, H, W): a block in a block, nothing on the last slice."""
    labels = np.zeros(SHAPE, np.uint8)
    top = 2 + seed % 3
    labels[:3, top : top + 6, 3:10] = 1
    labels[1:3, top + 2 : top + 4, 5:8] = 2
    return np.roll(labels, shift, axis=2)


def probabilities_of(labels, sure=0.9, n_classes=3):
    """(C, S, H, W) float32, the given class with probability `sure`, the others with equal ones."""
    rest = (1 - sure) / (n_classes - 1)
    return np.moveaxis(np.where(np.eye(n_classes)[labels] == 1, sure, rest), -1, 0).astype(np.float32)


def save_volume(path, values, axes="LPS"):
    """(S, H, W), or (C, S, H, W) as four axes, in LPS order; written along `axes`, whose array comes back."""
    path.parent.mkdir(parents=True, exist_ok=True)
    values = np.asarray(values)
    image = nibabel.Nifti1Image(
        np.moveaxis(values, 0, -1).transpose(2, 1, 0, 3) if values.ndim == 4 else values.T, LPS
    )
    orient = nibabel.orientations
    image = image.as_reoriented(orient.ornt_transform(orient.axcodes2ornt("LPS"), orient.axcodes2ornt(axes)))
    image.set_qform(image.affine, 1)
    image.set_sform(image.affine, 1)
    nibabel.save(image, path)
    return np.asarray(image.dataobj)


def describe(folder, names=NAMES, reader="SimpleITKIO"):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "dataset.json").write_text(json.dumps({"labels": names, "channel_names": {"0": "MRI"}}))
    (folder / "plans.json").write_text(json.dumps({"image_reader_writer": reader}))


def save_case(folder, name, labels, chances, axes="LPS", dtype=np.float32):
    """Segmentation, probabilities and a pickle that must not be opened; arrays lie as the file does."""
    save_volume(folder / f"{name}.nii.gz", labels.astype(np.uint8), axes)
    orient = nibabel.orientations
    turn = orient.ornt_transform(orient.axcodes2ornt("LPS"), orient.axcodes2ornt(axes))
    turned = [orient.apply_orientation(each.T, turn).T for each in chances]  # (z, y, x) of the file
    np.savez_compressed(folder / f"{name}.npz", probabilities=np.array(turned, dtype))
    (folder / f"{name}.pkl").write_bytes(b"cos\nsystem\n(S'touch opened'\ntR.")


@pytest.fixture
def folder(tmp_path):
    """Three cases, the surest one first by name."""
    root = tmp_path / "predictions"
    describe(root)
    for seed, (name, sure) in enumerate({"a_ED": 0.95, "a_ES": 0.7, "b_ED": 0.8}.items()):
        labels = labels_of(seed)
        save_case(root, name, labels, probabilities_of(labels, sure))
    return root
