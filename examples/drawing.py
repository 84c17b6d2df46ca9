"""A drawing, improved by looking at it: what the model sees is the target beside its own SVG.

OPTUNA_LLM_MODEL names the model; "offline" is a rule-based stand-in, which is blind.
"""

import os
from pathlib import Path
import re
import struct
from xml.etree import ElementTree
import zlib

import numpy as np
import optuna
from optuna.artifacts import FileSystemArtifactStore

from optuna_llm import explain_failures
from optuna_llm import LLMSampler
from optuna_llm import report_feedback
from optuna_llm import suggest_text
from optuna_llm.callbacks import ConsoleCallback


SIZE = 96
TARGET = """\
<svg><rect x="0" y="0" width="96" height="96" fill="rgb(251, 178, 104)"/>
<circle cx="64" cy="58" r="18" fill="rgb(228, 67, 47)"/>
<rect x="0" y="60" width="96" height="36" fill="rgb(31, 78, 121)"/>
<rect x="20" y="40" width="6" height="26" fill="rgb(43, 43, 43)"/></svg>
"""
START = """\
<svg><rect x="0" y="0" width="96" height="96" fill="rgb(128, 128, 128)"/>
<circle cx="30" cy="30" r="10" fill="rgb(255, 255, 255)"/>
<rect x="10" y="70" width="50" height="10" fill="rgb(0, 0, 0)"/></svg>
"""
TASK = "Redraw a picture as an SVG. Each image shows the target at the left, a trial at the right."
FORM = (
    f"An SVG of {SIZE} x {SIZE} pixels, of rect (x, y, width, height) and circle (cx, cy, r) "
    'only, each with a fill="rgb(r, g, b)"; later shapes cover earlier ones.'
)


def rasterize(svg: str) -> np.ndarray:
    y, x = np.mgrid[:SIZE, :SIZE] + 0.5
    pixels = np.full((SIZE, SIZE, 3), 255, np.uint8)
    for shape in ElementTree.fromstring(svg):
        kind = shape.tag.rpartition("}")[2]
        size = {name: float(v) for name, v in shape.attrib.items() if name != "fill"}
        if kind == "rect":
            left, top = size["x"], size["y"]
            inside = (left <= x) & (x < left + size["width"])
            inside &= (top <= y) & (y < top + size["height"])
        elif kind == "circle":
            inside = (x - size["cx"]) ** 2 + (y - size["cy"]) ** 2 < size["r"] ** 2
        else:
            raise ValueError(f"only rect and circle can be drawn, not {kind}")
        red, green, blue = re.findall(r"[\d.]+", shape.attrib["fill"])
        pixels[inside] = [min(255, round(float(level))) for level in (red, green, blue)]
    return pixels


def write_png(pixels: np.ndarray) -> bytes:
    height, width, _ = pixels.shape
    rows = b"".join(b"\0" + row.tobytes() for row in pixels)
    chunks = [
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)),
        (b"IDAT", zlib.compress(rows)),
        (b"IEND", b""),
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )


@explain_failures
def objective(trial: optuna.Trial) -> float:
    svg = suggest_text(trial, "svg", START, description=FORM, language="svg")
    target, drawing = rasterize(TARGET), rasterize(svg)
    error = float(np.abs(target.astype(float) - drawing).mean())
    # Enlarged, since models see small images poorly, with a white gap between the two.
    gap = np.full((SIZE, 4, 3), 255, np.uint8)
    picture = np.hstack([target, gap, drawing]).repeat(4, axis=0).repeat(4, axis=1)
    words = f"The pixels differ by {error:.1f} of 255 on average."
    report_feedback(trial, words, images=[write_png(picture)])
    return error


def main(
    folder: str = "drawings", n_trials: int = 12, model: object = None, seed: int = 0
) -> optuna.Study:
    Path(folder).mkdir(exist_ok=True)
    sampler = LLMSampler(
        TASK,
        model=model or os.environ.get("OPTUNA_LLM_MODEL", "offline"),
        artifact_store=FileSystemArtifactStore(folder),
        seed=seed,
    )
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(sampler=sampler)
    study.optimize(objective, n_trials, catch=Exception, callbacks=[ConsoleCallback()])
    best = study.best_trial
    picture = Path(folder, best.user_attrs["llm:images"][0])
    print(f"\nOff by {best.value:.1f}; target and drawing are in {picture} (a PNG):\n")
    print(best.user_attrs["svg"])
    return study


if __name__ == "__main__":
    main()
