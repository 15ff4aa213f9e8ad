#!/usr/bin/env python3
"""Compares `sr upscale` with ncnn on the networks that PyPI packages for ncnn hold.

  ncnn_packages.py SR FOLDER...    SR: the command; FOLDER: unpacked packages

Prints by how many of 255 the pictures differ. Networks that see the whole frame, or that
lose samples at the edges, are compared at a size that they take as it is.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

import ncnn
import numpy as np
from PIL import Image


def run(param, image):
    net = ncnn.Net()
    net.opt.use_fp16_packed = net.opt.use_fp16_storage = net.opt.use_fp16_arithmetic = False
    net.opt.use_winograd_convolution = False
    net.load_param(str(param))
    net.load_model(str(param.with_suffix(".bin")))
    x = np.ascontiguousarray(image.transpose(2, 0, 1), np.float32) / 255
    extractor = net.create_extractor()
    extractor.input(net.input_names()[0], ncnn.Mat(x).clone())
    y = np.array(extractor.extract(net.output_names()[0])[1])
    return np.rint(y.clip(0, 1) * 255).astype(int).transpose(1, 2, 0)


def main():
    sr, *folders = sys.argv[1:]
    worst = 0
    for param in sorted(path for folder in folders for path in Path(folder).rglob("*.param")):
        random = np.random.default_rng(3)
        image = random.integers(0, 256, (10, 16, 3)).astype(np.uint8)
        image = np.asarray(Image.fromarray(image).resize((192, 128), Image.Resampling.BICUBIC))
        with tempfile.TemporaryDirectory() as folder:
            source, result = Path(folder) / "in.png", Path(folder) / "out.png"
            Image.fromarray(image).save(source)
            theirs = run(param, image)
            factor = round(theirs.shape[1] / image.shape[1] + 0.2)
            command = [sr, "upscale", "--weights", param, "--scale", str(factor), source, result]
            subprocess.run(list(map(str, command)), check=True, stdout=subprocess.DEVNULL)
            ours = np.asarray(Image.open(result)).astype(int)
        # What a network loses at the edges we compute from repeated edges.
        lost = [(a - b) // 2 for a, b in zip(ours.shape[:2], theirs.shape[:2])]
        inner = ours[lost[0] : ours.shape[0] - lost[0], lost[1] : ours.shape[1] - lost[1]]
        off = np.abs(inner - theirs)
        worst = max(worst, off.max())
        print(f"{param.stem}: x{factor}, {lost[0]} lost, at most {off.max()} of 255, mean {off.mean():.4f}")
    print(f"at most {worst} of 255")


main()
