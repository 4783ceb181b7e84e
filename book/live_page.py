"""The files of the live page: scripts, hearts, networks, and the engine that runs networks in a browser.

The engine, onnxruntime-web, comes from npm, in the version and with the hashes of `live/package-lock.json`.
Where npm or its registry cannot be had, the page keeps its pictures and says why.
"""

import dataclasses
import json
import shutil
import subprocess
from pathlib import Path

import live_data
import numpy as np
import torch
from PIL import Image

from segconf_lite.arrays import to_numpy
from segconf_lite.cohorts import phantom
from segconf_lite.profiles import LITE

LIVE = Path(__file__).resolve().parent / "live"
WORK = LIVE.parents[1] / "_build" / "live"
ENGINE = "node_modules/onnxruntime-web/dist/"
COLOURS = np.array([[0, 0, 0], [86, 180, 233], [230, 159, 0], [204, 121, 167]], float)
TILE = 160  # pixels


def write(folder: Path) -> None:
    """Write all files of the live page into a folder of the site."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in LIVE.glob("*.js"):
        shutil.copy(path, folder)
    network = live_data.joint_network()
    pictures(network).save(folder / "pictures.png", optimize=True)
    (folder / "hearts.js").write_text(live_data.hearts_script(), "utf-8")
    (folder / "numbers.js").write_text(live_data.numbers_script(), "utf-8")
    exported = {"Network": live_data.onnx_of(network), "Gradient": live_data.gradient_onnx(network.unet)}
    for name, content in exported.items():
        line = f"window.segconf{name} = {json.dumps(live_data.packed(content))};\n"
        (folder / f"{name.lower()}.js").write_text(line, "utf-8")
    if (engine := engine_script()) is not None:
        (folder / "engine.js").write_text(engine, "utf-8")


def engine_script() -> str | None:
    """The engine as one script, or None (and a line that says why) where npm cannot install it."""
    if not (WORK / ENGINE).is_dir():
        shutil.rmtree(WORK, ignore_errors=True)
        WORK.mkdir(parents=True)
        for name in ("package.json", "package-lock.json", ".npmrc"):
            shutil.copy(LIVE / name, WORK)
        try:
            command = ["npm", "ci", "--silent"]
            subprocess.run(command, cwd=WORK, check=True, timeout=300, capture_output=True)
        except (OSError, subprocess.SubprocessError) as error:
            shutil.rmtree(WORK, ignore_errors=True)
            print(f"book: the live page shows pictures only, because npm cannot install its engine ({error})")
            return None
    module = (WORK / ENGINE / "ort.wasm.bundle.min.mjs").read_text("utf-8")
    binary = (WORK / ENGINE / "ort-wasm-simd-threaded.wasm").read_bytes()
    return f"window.segconfEngine = {json.dumps({'module': module, 'wasm': live_data.packed(binary)})};\n"


def pictures(network: torch.nn.Module) -> Image.Image:
    """One heart on scanners whose fat grows darker, and what the network finds in it."""
    columns = []
    for fat in (1.0, 0.6, 0.3, 0.02):
        scanner = dataclasses.replace(phantom.SCANNERS["A"], fat_signal=fat)
        cohort = phantom.cohort(12, scanner=scanner, size=LITE.size, seed=live_data.SEED, jitter=0.0)
        image = np.asarray(cohort.images[7:8])
        with torch.no_grad():
            found = to_numpy(network(torch.from_numpy(image))[0].argmax(dim=1)[0])
        grey = np.clip(255 * (image[0, 0, :, :, None] + 1.5) / 4.5, 0, 255).repeat(3, axis=2)
        shown = np.where(found[..., None] > 0, 0.5 * grey + 0.5 * COLOURS[found], grey)
        columns.append(np.concatenate([grey, shown]))
    whole = Image.fromarray(np.concatenate(columns, axis=1).astype(np.uint8))
    return whole.resize((TILE * len(columns), 2 * TILE), Image.Resampling.BICUBIC)
