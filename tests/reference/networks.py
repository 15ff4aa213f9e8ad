#!/usr/bin/env python3
"""Golden vectors of networks that other projects publish, for tests/golden.rs.

Runs the public implementations (spandrel, resselt, super-image) on CPU and writes
NAME.safetensors, NAME.params.txt and lines of tolerances.txt into tests/golden, in the
form that its README describes. Run by tests/reference/run.sh, which pins the packages.
"""

import importlib
import json
import math
import re
import struct
import sys
import types
from pathlib import Path

import numpy as np
import torch
from spandrel import ModelLoader
from spandrel.architectures.ESRGAN import ESRGAN
from spandrel.architectures.PLKSR import PLKSR, RealPLKSR
from spandrel.architectures.SPAN import SPAN

OUT = Path()
SEED = 20
MASK = (1 << 64) - 1
GOLDEN = 0x9E3779B97F4A7C15


def generated(name, shape, offset, amplitude):
    """The values of a parameter: tests/golden/README.md."""
    state = 0xCBF29CE484222325
    for byte in name.encode():
        state = ((state ^ byte) * 0x100000001B3) & MASK
    state ^= (SEED * GOLDEN) & MASK
    count = int(np.prod(shape)) if shape else 1
    with np.errstate(over="ignore"):
        z = np.uint64(state) + np.uint64(GOLDEN) * np.arange(1, count + 1, dtype=np.uint64)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z ^= z >> np.uint64(31)
    u = (z >> np.uint64(40)).astype(np.float64) / 2**24
    return (offset + amplitude * (2 * u - 1)).astype(np.float32).reshape(shape)


def parameters(shapes):
    """Values and lines of params.txt for names with shapes."""
    state, lines = {}, ["# name shape kind offset amplitude sum"]
    for name, shape in shapes.items():
        size = "x".join(map(str, shape)) or "scalar"
        if "_mean." in name or name == "no_norm":
            lines.append(f"{name} {size} coded - - -")
            continue
        if name.endswith("bias"):
            kind, offset, amplitude = "bias", 0.0, 0.05
        elif len(shape) == 1:
            kind, offset, amplitude = "norm_weight", 1.0, 0.1
        else:
            kind, offset, amplitude = "weight", 0.0, math.sqrt(3 / np.prod(shape[1:]))
        values = generated(name, shape, offset, amplitude)
        state[name] = torch.from_numpy(values)
        lines.append(f"{name} {size} {kind} {offset} {amplitude} {values.astype(np.float64).sum()}")
    return state, lines


def write(name, lines, input, run):
    """Runs in f32 and f64."""
    with torch.no_grad():
        outputs = {key: (run(input, scale, torch.float32), run(input, scale, torch.float64)) for key, scale in run.outputs}
    tensors = {"input": input.numpy()} | {key: y.numpy() for key, (y, _) in outputs.items()}
    header, blob = {"__metadata__": {"seed": str(SEED)}}, b""
    rows = []
    for key, values in tensors.items():
        values = np.ascontiguousarray(values, np.float32)
        header[key] = {"dtype": "F32", "shape": values.shape, "data_offsets": [len(blob), len(blob) + values.nbytes]}
        blob += values.tobytes()
        size, most = "x".join(map(str, values.shape)), float(np.abs(values).max())
        if key == "input":
            rows.append(f"{name} {key} F32 {size} 0 - {most:.6g}")
            continue
        f32, f64 = outputs[key]
        off = float((f32.double() - f64).abs().max())
        least = max(20 * off, 3e-6 * most)
        digit = 10 ** math.floor(math.log10(least))
        rows.append(f"{name} {key} F32 {size} {math.ceil(least / digit) * digit:.0e} {off:.3g} {most:.6g}")
    head = json.dumps(header).encode()
    head += b" " * (-len(head) % 8)
    (OUT / f"{name}.safetensors").write_bytes(struct.pack("<Q", len(head)) + head + blob)
    (OUT / f"{name}.params.txt").write_text("\n".join(lines) + "\n")
    table = OUT / "tolerances.txt"
    kept = [line for line in table.read_text().splitlines() if line.split()[0] != name]
    table.write_text("\n".join(kept + rows) + "\n")
    print("\n".join(rows))


def image(planes, height=10, width=12):
    return torch.from_numpy(generated("input", (1, planes, height, width), 0.5, 0.5))


def loaded(name, shapes, planes=3, size=(10, 12)):
    """A network that spandrel recognises by its keys."""
    state, lines = parameters(shapes)
    if "no_norm" in shapes:
        state["no_norm"] = torch.zeros(1)
    model = ModelLoader(device="cpu").load_from_state_dict(dict(state)).model.eval()

    def run(x, _, dtype):
        return cast(model, dtype)(x.to(dtype))

    run.outputs = [(f"output_x{scale_of(name)}", None)]
    write(name, lines, image(planes, *size), run)


def cast(model, dtype):
    model = model.to(dtype)
    for module in model.modules():
        for key, value in vars(module).items():
            if isinstance(value, torch.Tensor) and value.is_floating_point():
                setattr(module, key, value.to(dtype))
    return model


def scale_of(name):
    return int(re.search(r"_x(\d+)$", name)[1])


def shapes_of(model, renamed=lambda name: name):
    return {renamed(name): tuple(value.shape) for name, value in model.state_dict().items()}


def esrgan():
    def network(scale, shuffle=None, planes=3, **settings):
        return ESRGAN(in_nc=planes * (shuffle or 1) ** 2, out_nc=planes, num_filters=8, num_blocks=2, scale=scale * (shuffle or 1), shuffle_factor=shuffle, **settings)

    def renamed(body, dense, first, after, up, hr, layers):
        def name(old):
            old = re.sub(r"^model\.1\.sub\.(\d+)\.RDB(\d)\.conv(\w+)(\.0)?\.", rf"{body}.\1.{dense}\2.conv\3.", old)
            old = re.sub(r"^model\.1\.sub\.2\.", f"{after}.", old)
            old = re.sub(r"^model\.0\.", f"{first}.", old)
            old = re.sub(rf"^model\.{3 * layers + 2}\.", f"{hr}.", old)
            old = re.sub(rf"^model\.{3 * layers + 4}\.", "conv_last.", old)
            return re.sub(r"^model\.(\d+)\.", lambda m: f"{up}{int(m[1]) // 3}.", old)

        return name

    new = lambda layers: renamed("body", "rdb", "conv_first", "conv_body", "conv_up", "conv_hr", layers)
    bsrgan = lambda layers: renamed("RRDB_trunk", "RDB", "conv_first", "trunk_conv", "upconv", "HRconv", layers)
    loaded("rrdbnet_old_x4", shapes_of(network(4)))
    loaded("rrdbnet_plus_x2", shapes_of(network(2, plus=True)))
    loaded("rrdbnet_luma_x8", shapes_of(network(8, planes=1)), planes=1, size=(5, 6))
    loaded("rrdbnet_x4", shapes_of(network(4), new(2)))
    loaded("rrdbnet_bsrgan_x4", shapes_of(network(4), bsrgan(2)))
    loaded("rrdbnet_x2", shapes_of(network(2, shuffle=2), new(2)))
    loaded("rrdbnet_x1", shapes_of(network(1, shuffle=4), new(2)), size=(12, 16))


def span():
    settings = dict(num_in_ch=3, num_out_ch=3, feature_channels=8)
    loaded("span_x4", shapes_of(SPAN(upscale=4, **settings)))
    loaded("span_no_norm_x2", shapes_of(SPAN(upscale=2, norm=False, **settings)))
    arch = importlib.import_module("resselt.archs.spanplus.arch")
    model = arch.SpanPlus(blocks=[1, 2], feature_channels=8, upscale=3, upsampler="ps")
    state, lines = parameters(shapes_of(model))
    model.load_state_dict(state)
    model.eval()

    def run(x, _, dtype):
        return cast(model, dtype)(x.to(dtype))

    run.outputs = [("output_x3", None)]
    write("spanplus_x3", lines, image(3), run)


def plksr():
    settings = dict(dim=8, n_blocks=2, split_ratio=0.5)
    size = (11, 13)
    loaded("realplksr_x4", shapes_of(RealPLKSR(upscaling_factor=4, kernel_size=17, **settings)), size=size)
    loaded("realplksr_layer_x2", shapes_of(RealPLKSR(upscaling_factor=2, kernel_size=9, layer_norm=True, use_ea=False, **settings)), size=size)
    loaded("realplksr_x1", shapes_of(RealPLKSR(upscaling_factor=1, kernel_size=5, **settings)), size=size)
    loaded("plksr_x2", shapes_of(PLKSR(upscaling_factor=2, kernel_size=17, ccm_type="CCM", **settings)), size=size)
    loaded("plksr_dccm_x3", shapes_of(PLKSR(upscaling_factor=3, kernel_size=13, ccm_type="DCCM", use_ea=False, **settings)), size=size)


def super_image(name):
    """A module of super-image, without what the package imports for training."""
    folder = next(Path(entry) / "super_image" for entry in sys.path if (Path(entry) / "super_image").is_dir())
    for part in ["super_image", "super_image.models", f"super_image.models.{name}"]:
        module = types.ModuleType(part)
        module.__path__ = [str(folder.joinpath(*part.split(".")[1:]))]
        sys.modules[part] = module
    data = types.ModuleType("super_image.data.datasets")
    data.DIV2K_RGB_MEAN, data.DIV2K_RGB_STD = (0.4488, 0.4371, 0.4040), (1.0, 1.0, 1.0)
    sys.modules["super_image.data"] = types.ModuleType("super_image.data")
    sys.modules["super_image.data.datasets"] = data
    model = importlib.import_module(f"super_image.models.{name}.modeling_{name}")
    return model, importlib.import_module(f"super_image.models.{name}.configuration_{name}")


def edsr():
    arch, settings = super_image("edsr")

    def add(name, renamed=lambda name: name, **config):
        scale = scale_of(name)
        model = arch.EdsrModel(settings.EdsrConfig(scale=scale, rgb_range=255, **config))
        shapes = shapes_of(model)
        state, lines = parameters({renamed(key): shape for key, shape in shapes.items()})
        with torch.no_grad():
            for key, value in model.state_dict().items():
                if "_mean." not in key:
                    value.copy_(state[renamed(key)])
        model.eval()

        # As EDSR-PyTorch runs it: the network of super-image leaves the means out.
        def run(x, _, dtype):
            net = cast(model, dtype)
            return net.add_mean(net(net.sub_mean(255 * x.to(dtype)))) / 255

        run.outputs = [(f"output_x{scale}", None)]
        write(name, lines, image(3), run)

    def basicsr(key):
        key = key.replace("head.0.", "conv_first.").replace("tail.1.", "conv_last.").replace("tail.0.", "upsample.")
        key = re.sub(r"^body\.(\d+)\.body\.(\d)\.", lambda m: f"body.{m[1]}.conv{int(m[2]) // 2 + 1}.", key)
        return re.sub(r"^body\.\d+\.(weight|bias)", r"conv_after_body.\1", key)

    small = dict(n_resblocks=3, n_feats=8, res_scale=1)
    add("edsr_x4", **small)
    add("edsr_x3", **small)
    add("edsr_large_x2", n_resblocks=2, n_feats=256, res_scale=0.1)
    add("edsr_basicsr_x2", lambda key: key if "_mean." in key else basicsr(key), **small)


def carn():
    arch, settings = super_image("carn")
    for scale in [3, 4]:
        model = arch.CarnModel(settings.CarnConfig(scale=scale))
        state, lines = parameters(shapes_of(model))
        with torch.no_grad():
            for key, value in model.state_dict().items():
                if "_mean." not in key:
                    value.copy_(state[key])
        model.eval()

        def run(x, _, dtype, model=model):
            return cast(model, dtype)(x.to(dtype))

        run.outputs = [(f"output_x{scale}", None)]
        write(f"carn_x{scale}", lines, image(3), run)


class ArtCnn(torch.nn.Module):
    """Of ArtCNN for PyTorch there is no package: written from its description."""

    def __init__(self, planes, width, blocks, scale):
        super().__init__()
        conv = lambda inputs, outputs: torch.nn.Conv2d(inputs, outputs, 3, padding=1)
        active = lambda: torch.nn.Sequential(conv(width, width), torch.nn.ReLU())
        self.conv0 = conv(planes, width)
        self.res_block = torch.nn.ModuleList()
        for _ in range(blocks):
            block = torch.nn.Module()
            block.conv = torch.nn.Sequential(active(), active(), conv(width, width))
            self.res_block.append(block)
        self.res_block.append(conv(width, width))
        self.depth_to_space = torch.nn.Module()
        self.depth_to_space.upscale = torch.nn.Sequential(conv(width, planes * scale**2), torch.nn.PixelShuffle(scale))

    def forward(self, x):
        x = first = self.conv0(x)
        for block in self.res_block[:-1]:
            x = x + block.conv(x)
        return self.depth_to_space.upscale(self.res_block[-1](x) + first)


def artcnn():
    for planes, scale in [(1, 2), (3, 4)]:
        model = ArtCnn(planes, 8, 2, scale)
        state, lines = parameters(shapes_of(model))
        model.load_state_dict(state)

        def run(x, _, dtype, model=model):
            return cast(model, dtype)(x.to(dtype))

        run.outputs = [(f"output_x{scale}", None)]
        write(f"artcnn_x{scale}", lines, image(planes), run)


def main():
    global OUT
    OUT = Path(sys.argv[1])
    torch.manual_seed(0)
    torch.set_num_threads(1)
    for networks in [esrgan, span, plksr, edsr, carn, artcnn]:
        networks()


main()
