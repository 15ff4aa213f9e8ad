#!/usr/bin/env python3
"""Networks of ncnn with their results, for tests/ncnn.rs.

Writes NAME.param, NAME.bin and NAME.safetensors (input, output) into tests/ncnn: small
networks in the forms of those that people have, with random weights. Run by
tests/reference/run.sh, which pins the packages.
"""

import sys
from pathlib import Path

import ncnn
import numpy as np
from onnx_graphs import save_tensors

OUT = Path()
F16 = np.array([0x01306B47], np.uint32).tobytes()


class Net:
    """Layers one after the other; values are names."""

    def __init__(self, planes=3, half=False, declared=True):
        self.random = np.random.default_rng(11)
        self.lines, self.bin, self.half, self.planes, self.count = [], b"", half, planes, 0
        self.blobs = 0
        self.add("Input", [], settings=f"0=20 1=20 2={planes}" if declared else "", outputs=["data"])

    def add(self, kind, inputs, settings="", outputs=None):
        outputs = outputs or [f"v{len(self.lines)}"]
        self.blobs += len(outputs)
        inputs = [inputs] if isinstance(inputs, str) else inputs
        words = [kind, f"{kind.lower()}_{len(self.lines)}", str(len(inputs)), str(len(outputs)), *inputs, *outputs, settings]
        self.lines.append(" ".join(words).rstrip())
        return outputs[0] if len(outputs) == 1 else outputs

    def split(self, x, count=2):
        return self.add("Split", x, outputs=[f"{x}_{i}" for i in range(count)])

    def weights(self, shape, fan, flag=True):
        values = self.random.normal(0, 1.4 / np.sqrt(fan), shape).astype(np.float32)
        if flag and self.half:
            data = values.astype(np.float16).tobytes()
            self.bin += F16 + data + b"\0" * (-len(data) % 4)
        else:
            self.bin += (b"\0" * 4 if flag else b"") + values.tobytes()

    def raw(self, count, low=-0.3, high=0.3):
        self.bin += self.random.uniform(low, high, count).astype(np.float32).tobytes()

    def conv(self, x, inputs, outputs, kernel=3, settings="", bias=True, group=1, kind=None):
        kind = kind or ("ConvolutionDepthWise" if group > 1 else "Convolution")
        shape = (outputs, inputs // group, kernel, kernel)
        self.weights(shape, np.prod(shape[1:]))
        if bias:
            self.raw(outputs)
        if group > 1:
            settings += f" 7={group}"
        return self.add(kind, x, f"0={outputs} 1={kernel} 5={int(bias)} 6={int(np.prod(shape))} {settings}")

    def dense(self, x, inputs, outputs, settings=""):
        self.weights((outputs, inputs), inputs)
        self.raw(outputs)
        return self.add("InnerProduct", x, f"0={outputs} 1=1 2={inputs * outputs} {settings}")

    def prelu(self, x, channels):
        self.raw(channels)
        return self.add("PReLU", x, f"0={channels}")

    def save(self, name, height=22, width=30):
        param, weights = OUT / f"{name}.param", OUT / f"{name}.bin"
        param.write_text("\n".join(["7767517", f"{len(self.lines)} {self.blobs}", *self.lines]) + "\n")
        weights.write_bytes(self.bin)
        net = ncnn.Net()
        for option in ["fp16_packed", "fp16_storage", "fp16_arithmetic", "winograd_convolution", "sgemm_convolution"]:
            setattr(net.opt, f"use_{option}", False)
        assert net.load_param(str(param)) == 0 and net.load_model(str(weights)) == 0
        x = np.random.default_rng(5).uniform(0, 1, (self.planes, height, width)).astype(np.float32)
        extractor = net.create_extractor()
        extractor.input("data", ncnn.Mat(x).clone())
        y = np.array(extractor.extract(net.output_names()[0])[1])
        save_tensors(OUT / f"{name}.safetensors", {"input": x[None], "output": y[None]})
        print(f"{name}: {x.shape} -> {y.shape}, {y.min():.3f} to {y.max():.3f}")


LEAKY = "9=2 -23310=1,0.1"


def compact(name, planes=3, shrink=None, **settings):
    n = Net(planes, **settings)
    base, x = n.split("data")
    x = n.prelu(n.conv(x, planes, 16, settings="4=1"), 16)
    x = n.prelu(n.conv(x, 16, 16, settings="4=1"), 16)
    x = n.conv(x, 16, planes * 16, settings="4=1")
    x = n.add("PixelShuffle", x, "0=4")
    y = n.add("BinaryOp", [x, n.add("Interp", base, "0=1 1=4.0 2=4.0")])
    if shrink:
        n.add("Interp", y, f"0=3 1={shrink} 2={shrink}")
    n.save(name)


def esrgan(name):
    n = Net(half=True, declared=False)
    first = n.split(n.conv("data", 3, 8, settings="4=1"), 5)
    a, b = n.split(n.conv(first[0], 8, 4, settings="4=1 9=2 -23310=1,0.2"))
    x = n.add("Concat", [first[1], a])
    c = n.conv(x, 12, 4, settings="4=1 9=2 -23310=1,0.2")
    x = n.conv(n.add("Concat", [first[2], b, c], "0=0"), 16, 8, settings="4=1")
    x = n.add("Eltwise", [x, first[3]], "0=1 -23301=2,0.2,1.0")
    x = n.add("BinaryOp", [first[4], n.conv(x, 8, 8, settings="4=1")], "0=0")
    x = n.conv(n.add("Interp", x, "0=1 1=2.0 2=2.0"), 8, 8, settings="4=1 9=2 -23310=1,0.2")
    n.conv(x, 8, 3, settings="4=1")
    n.save(name)


def upconv(name):
    n = Net(half=True)
    x = n.conv("data", 3, 16, settings=LEAKY)
    x = n.conv(x, 16, 16, settings=LEAKY)
    n.conv(x, 16, 3, 4, settings="3=2 4=3", kind="Deconvolution")
    n.save(name)


def gate(n, x, channels, scale):
    a, b = n.split(x)
    g = n.dense(n.add("Pooling", b, "0=1 4=1"), channels, channels // 4, "9=1")
    g = n.dense(g, channels // 4, channels, "9=4")
    return n.add("Scale", [a, g], "0=-233") if scale else n.add("BinaryOp", [a, g], "0=2")


def cunet(name, relative):
    n = Net()
    x = n.conv("data", 3, 8, settings=LEAKY)
    skip, x = n.split(n.conv(x, 8, 16, settings=LEAKY))
    x = n.conv(x, 16, 16, 2, settings="3=2 " + LEAKY)
    x = gate(n, n.conv(x, 16, 16, settings=LEAKY), 16, relative)
    x = n.conv(x, 16, 16, 2, settings="3=2 " + LEAKY, kind="Deconvolution")
    if relative:
        like, x = n.split(x)
        skip = n.add("Crop", [skip, like], "0=2 1=2")
        x = n.add("Eltwise", [skip, x], "0=1")
    else:
        skip = n.add("Crop", skip, "-23309=2,2,2 -23310=2,-2,-2 -23311=2,-2,-1")
        x = n.add("BinaryOp", [skip, x], "0=0")
    n.conv(x, 16, 3, settings="")
    n.save(name)


def layers(name):
    n = Net()
    x = n.conv("data", 3, 8, settings="4=1 9=3 -23310=2,-1.0,1.0")
    x = n.conv(x, 8, 8, settings="4=1 9=5", group=8)
    x = n.conv(x, 8, 16, settings="4=-233 2=2 9=6 -23310=2,0.166,0.5", group=2)
    n.raw(16, 0.5, 1.5), n.raw(16), n.raw(16, 0.5, 1.5), n.raw(16)
    x = n.add("BatchNorm", x, "0=16 1=0.001")
    n.raw(16, 0.5, 1.5), n.raw(16)
    x = n.add("Scale", x, "0=16 1=1")
    a, b, c = n.add("Slice", x, "-23300=3,4,4,-233", outputs=["s0", "s1", "s2"])
    a = n.add("TanH", n.add("BinaryOp", a, "0=7 1=1 2=1.5"))
    b = n.add("HardSwish", n.add("BinaryOp", b, "0=2 1=1 2=2.0"))
    c = n.add("Swish", n.add("Clip", c, "0=-0.5 1=0.75"))
    x = n.add("Concat", [a, b, c])
    x = n.add("ELU", n.add("ReLU", x, "0=0.3"), "0=0.5")
    x = n.add("Padding", x, "0=1 1=1 2=1 3=1 4=2")
    x = n.conv(x, 16, 8)
    x = n.add("Padding", x, "0=1 1=1 2=1 3=1 4=1")
    x = n.add("Mish", n.conv(x, 8, 8))
    x = n.add("Interp", x, "0=2 1=2.0 2=2.0")
    x = n.conv(x, 8, 8, 4, settings="3=2 4=1", group=4, kind="DeconvolutionDepthWise")
    x = n.add("HardSigmoid", n.conv(x, 8, 12, settings="4=1"), "0=0.3 1=0.4")
    n.add("Sigmoid", n.conv(x, 12, 3, 1))
    n.save(name)


def main():
    compact("compact-x4", half=True)
    compact("compact-luma-x4", planes=1)
    compact("compact-shrunk-x2", shrink=0.5)
    esrgan("esrgan-x2")
    upconv("upconv-x2")
    cunet("cunet-relative", True)
    cunet("cunet", False)
    layers("layers-x4")


if __name__ == "__main__":
    OUT = Path(sys.argv[1])
    OUT.mkdir(exist_ok=True)
    main()
