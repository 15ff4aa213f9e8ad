#!/usr/bin/env python3
"""Exports the models with built-in weights and compares ONNX Runtime and OpenVINO with `sr upscale`.

  exported.py SR [MODEL...]      SR: the command

Pictures of 16 bits, grey for luma models and RGB for the others; largest differences of full scale.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

import cv2
import numpy as np
import onnx
import onnxruntime
import openvino

SCALES = {
    "hypersrcnn": [2, 3, 5], "hypersrcnn-rgb": [2, 4], "srcnn": [2, 3, 4], "srcnn-rgb": [2, 4, 8],
    "espcn": [2, 3, 4, 8], "espcn-fast": [2, 3, 4], "espcn-hq": [2, 3, 4], "espcn-video": [2, 3, 4], "espcn-video-hq": [2], "srresnet": [4], "compact": [2],
}  # fmt: skip
FULL = 65535


def picture(planes, width=96, height=64):
    small = np.random.default_rng(1).uniform(0, 1, (16, 24, planes)).astype(np.float32)
    large = cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC)
    return np.rint(large.clip(0, 1) * FULL).astype(np.uint16).reshape(height, width, planes)


def planes_of(image):
    """As (1, C, H, W), in the order of cv2: blue first."""
    return image.astype(np.float32).transpose(2, 0, 1)[None, ::-1] / FULL


def main():
    sr, *names = sys.argv[1:]
    worst = 0
    for name in names or SCALES:
        for scale in SCALES[name]:
            with tempfile.TemporaryDirectory() as folder:
                model, source, result = (Path(folder) / file for file in ["m.onnx", "in.png", "out.png"])
                run = lambda *command: subprocess.run([sr, *map(str, command)], check=True, stdout=subprocess.DEVNULL)
                run("export", name, "--to", "onnx", "--scale", scale, "--out", model)
                onnx.checker.check_model(str(model), full_check=True)
                session = onnxruntime.InferenceSession(str(model), providers=["CPUExecutionProvider"])
                image = picture(session.get_inputs()[0].shape[1])
                cv2.imwrite(str(source), image)
                run("upscale", source, result, "--model", name, "--scale", scale, "--precision", "f32")
                ours = cv2.imread(str(result), cv2.IMREAD_UNCHANGED)
                ours = planes_of(ours.reshape(*ours.shape[:2], -1))
                x = np.ascontiguousarray(planes_of(image))
                runtime = session.run(None, {"input": x})[0].clip(0, 1)
                network = openvino.Core().compile_model(str(model), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
                vino = network(x)[0].clip(0, 1)
            off = [float(np.abs(ours - theirs).max()) for theirs in [runtime, vino]]
            worst = max(worst, *off)
            print(f"{name} x{scale}: ONNX Runtime {off[0]:.1e}, OpenVINO {off[1]:.1e}")
    print(f"at most {worst:.1e}")


main()
