#!/usr/bin/env python3
"""Graphs in ONNX with their results by ONNX Runtime, for tests/onnx.rs.

Writes NAME.onnx and NAME.safetensors (input, output) into tests/onnx: the forms in which
PyTorch exports the networks that people have, with few channels and random weights, and
small graphs of each operator. Run by tests/reference/run.sh, which pins the packages.
"""

import json
import struct
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

OUT = Path()


class Graph:
    """Nodes one after the other; values are names."""

    def __init__(self, planes=3, opset=17, size=None, half=False):
        self.nodes, self.constants, self.count = [], [], 0
        self.planes, self.opset, self.size, self.half = planes, opset, size, half
        self.random = np.random.default_rng(7)
        self.metadata = {}

    def constant(self, values, dtype=np.float32):
        name = f"c{len(self.constants)}"
        if self.half and dtype == np.float32:
            dtype = np.float16
        self.constants.append(numpy_helper.from_array(np.asarray(values, dtype), name))
        return name

    def ints(self, *values):
        return self.constant(values, np.int64)

    def sizes(self, rows, columns=None):
        """Scales of a Resize, which are in f32 always."""
        self.constants.append(numpy_helper.from_array(np.array([1, 1, rows, columns or rows], np.float32), f"c{len(self.constants)}"))
        return self.constants[-1].name

    def add(self, op, *inputs, outputs=1, **attributes):
        names = [f"v{self.count + i}" for i in range(outputs)]
        self.count += outputs
        self.nodes.append(helper.make_node(op, list(inputs), names, f"/{op}_{len(self.nodes)}", **attributes))
        return names[0] if outputs == 1 else names

    def weights(self, *shape, gain=1.0):
        fan = max(1, int(np.prod(shape[1:])))
        return self.constant(self.random.normal(0, gain / np.sqrt(fan), shape))

    def conv(self, x, inputs, outputs, kernel=3, gain=1.4, bias=True, **attributes):
        if "auto_pad" not in attributes:
            attributes.setdefault("pads", [kernel // 2] * 4)
        attributes.setdefault("kernel_shape", [kernel, kernel])
        groups = attributes.get("group", 1)
        operands = [x, self.weights(outputs, inputs // groups, kernel, kernel, gain=gain)]
        if bias:
            operands.append(self.constant(self.random.normal(0, 0.05, outputs)))
        return self.add("Conv", *operands, **attributes)

    def prelu(self, x, channels):
        return self.add("PRelu", x, self.constant(self.random.uniform(0.05, 0.4, (channels, 1, 1))))

    def save(self, name, y, height=18, width=21, convert=None):
        element = TensorProto.FLOAT16 if self.half else TensorProto.FLOAT
        sides = list(self.size) if self.size else ["height", "width"]
        if self.size:
            height, width = self.size
        image = helper.make_tensor_value_info("input", element, [1, self.planes, *sides])
        result = helper.make_tensor_value_info(y, element, ["n", "c", "h", "w"])
        graph = helper.make_graph(self.nodes, name, [image], [result], self.constants)
        model = helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", self.opset)], ir_version=8, producer_name="srfilter"
        )
        for key, value in self.metadata.items():
            entry = model.metadata_props.add()
            entry.key, entry.value = key, value
        onnx.checker.check_model(model)
        path = OUT / f"{name}.onnx"
        path.write_bytes(model.SerializeToString())
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        x = self.random.uniform(0, 1, (1, self.planes, height, width)).astype(np.float32)
        # In f16 the weights are, the arithmetic of a reference is not.
        reference = full_precision(model) if self.half else model
        session = onnxruntime.InferenceSession(
            reference.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        of_input, of_output = convert or (lambda x: x, lambda _, y: y)
        planes = of_input(x)
        (y,) = session.run(None, {"input": planes})
        y = of_output(planes, y)
        save_tensors(OUT / f"{name}.safetensors", {"input": x, "output": y.astype(np.float32)})
        print(f"{name}: {x.shape} -> {y.shape}, {path.stat().st_size} bytes, {y.min():.3f} to {y.max():.3f}")


def full_precision(model):
    """The same graph in f32, with the weights rounded to f16."""
    model = onnx.ModelProto.FromString(model.SerializeToString())
    for tensor in model.graph.initializer:
        if tensor.data_type == TensorProto.FLOAT16:
            values = numpy_helper.to_array(tensor).astype(np.float32)
            tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    for value in [*model.graph.input, *model.graph.output]:
        value.type.tensor_type.elem_type = TensorProto.FLOAT
    return model


def save_tensors(path, tensors):
    header, data = {}, b""
    for name, values in tensors.items():
        raw = np.ascontiguousarray(values).tobytes()
        header[name] = {"dtype": "F32", "shape": list(values.shape), "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


# Networks


def espcn(name, **settings):
    g = Graph(planes=1, **settings)
    x = g.add("Tanh", g.conv("input", 1, 16, 5))
    x = g.add("Tanh", g.conv(x, 16, 8))
    x = g.add("DepthToSpace", g.conv(x, 8, 9), blocksize=3, mode="CRD")
    g.save(name, g.add("Clip", x, g.constant(0.0), g.constant(1.0)))


def espcn_relu(name, mode, width=(16, 16)):
    g = Graph(planes=1)
    first, second = width
    x = g.add("Relu", g.conv("input", 1, first, 5))
    x = g.add("Relu", g.conv(x, first, second))
    g.save(name, g.add("DepthToSpace", g.conv(x, second, 4), blocksize=2, mode=mode))


def espcn_rgb_blocks(name):
    """Blocks before channels, of three planes."""
    g = Graph()
    x = g.add("Relu", g.conv("input", 3, 16))
    g.save(name, g.add("DepthToSpace", g.conv(x, 16, 12), blocksize=2, mode="DCR"))


def srcnn(name, edge, width=(16, 16)):
    g = Graph(planes=1)
    first, second = width

    def conv(x, inputs, outputs, kernel):
        if not edge:
            return g.conv(x, inputs, outputs, kernel)
        half = kernel // 2
        if half:
            x = g.add("Pad", x, g.ints(0, 0, half, half, 0, 0, half, half), mode="edge")
        return g.conv(x, inputs, outputs, kernel, pads=[0] * 4)

    x = g.add("Relu", conv("input", 1, first, 9))
    x = g.add("Relu", conv(x, first, second, 1 if edge else 5))
    g.save(name, conv(x, second, 1, 5))


def acnet(name, full, layers=4):
    """ACNet's form: convolutions and a transposed one; full range."""
    g = Graph(planes=1)
    if full:
        g.metadata["range"] = "full"
    x = "input"
    for i in range(layers):
        x = g.add("Relu", g.conv(x, 1 if i == 0 else 8, 8))
    x = g.add("ConvTranspose", x, g.weights(8, 1, 2, 2, gain=2), kernel_shape=[2, 2], strides=[2, 2])
    g.save(name, x)


def compact(name, factor=2, width=16, depth=3, **settings):
    g = Graph(**settings)
    x = g.prelu(g.conv("input", 3, width), width)
    for _ in range(depth):
        x = g.prelu(g.conv(x, width, width), width)
    x = g.add("DepthToSpace", g.conv(x, width, 3 * factor * factor, gain=0.5), blocksize=factor, mode="CRD")
    base = g.add("Resize", "input", "", g.sizes(factor), mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor")
    g.save(name, g.add("Add", x, base))


def artcnn(name, width=16):
    """ArtCNN's C4F16: a skip over the convolutions, then blocks before channels."""
    g = Graph(planes=1)
    first = g.conv("input", 1, width)
    x = first
    for _ in range(4):
        x = g.add("Relu", g.conv(x, width, width))
    x = g.add("Add", g.conv(x, width, width), first)
    x = g.add("DepthToSpace", g.conv(x, width, 4, gain=0.6), blocksize=2, mode="DCR")
    g.save(name, g.add("Clip", x, g.constant(0.0), g.constant(1.0)))


def fsrcnn(name, width=(24, 8), depth=2):
    g = Graph(planes=1, opset=11)
    wide, thin = width
    x = g.prelu(g.conv("input", 1, wide, 5), wide)
    x = g.prelu(g.conv(x, wide, thin, 1), thin)
    for _ in range(depth):
        x = g.prelu(g.conv(x, thin, thin), thin)
    x = g.prelu(g.conv(x, thin, wide, 1), wide)
    x = g.add("ConvTranspose", x, g.weights(wide, 1, 9, 9, gain=0.9), g.constant([0.1]), kernel_shape=[9, 9], strides=[2, 2], pads=[4] * 4, output_padding=[1, 1])
    g.save(name, x)


def edsr(name, width=12, blocks=2, **settings):
    """Means subtracted by 1x1 convolutions, blocks scaled, two shuffles."""
    g = Graph(**settings)
    x = g.add("Sub", "input", g.constant(np.array([0.449, 0.437, 0.404]).reshape(1, 3, 1, 1)))
    head = g.conv(x, 3, width)
    x = head
    for _ in range(blocks):
        y = g.conv(g.add("Relu", g.conv(x, width, width)), width, width)
        x = g.add("Add", g.add("Mul", y, g.constant(0.1)), x)
    x = g.add("Add", g.conv(x, width, width), head)
    for _ in range(2):
        x = g.add("DepthToSpace", g.conv(x, width, 4 * width), blocksize=2, mode="CRD")
    x = g.conv(x, width, 3)
    g.save(name, g.add("Add", x, g.constant(np.array([0.449, 0.437, 0.404]).reshape(1, 3, 1, 1))), 9, 11)


def rrdb(name, unshuffle=1, width=8, growth=4, blocks=2, depth=1, convs=2, **settings):
    """Dense blocks, nearest neighbours between convolutions; with its input unshuffled."""
    g = Graph(**settings)

    def leaky(x):
        return g.add("LeakyRelu", x, alpha=0.2)

    def dense(x):
        features = [x]
        for i in range(convs):
            joined = features[0] if i == 0 else g.add("Concat", *features, axis=1)
            features.append(leaky(g.conv(joined, width + growth * i, growth)))
        y = g.conv(g.add("Concat", *features, axis=1), width + growth * convs, width)
        return g.add("Add", g.add("Mul", y, g.constant(0.2)), x)

    x = "input"
    if unshuffle > 1:
        x = g.add("SpaceToDepth", x, blocksize=unshuffle)
    head = g.conv(x, 3 * unshuffle**2, width)
    x = head
    for _ in range(blocks):
        start = x
        for _ in range(depth):
            x = dense(x)
        if depth > 1:
            x = g.add("Add", g.add("Mul", x, g.constant(0.2)), start)
    x = g.add("Add", head, g.conv(x, width, width))
    for _ in range(2):
        x = g.add("Resize", x, "", g.sizes(2), mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor")
        x = leaky(g.conv(x, width, width))
    x = g.conv(leaky(g.conv(x, width, width)), width, 3)
    g.save(name, x, 12, 14)


def span(name, width=12, blocks=2, factor=3):
    g = Graph()
    first = g.conv("input", 3, width)
    x, all_ = first, [first]
    for _ in range(blocks):
        y = g.conv(x, width, width)
        y = g.conv(g.add("Mul", y, g.add("Sigmoid", y)), width, width)
        attention = g.add("Sub", g.add("Sigmoid", y), g.constant(0.5))
        x = g.add("Mul", g.add("Add", y, x), attention)
        all_.append(x)
    x = g.conv(g.add("Concat", *all_, axis=1), width * (blocks + 1), width, 1)
    g.save(name, g.add("DepthToSpace", g.conv(x, width, 3 * factor * factor), blocksize=factor, mode="CRD"))


def imdn(name):
    """Channels split off and contrast-aware channel attention."""
    g = Graph(opset=13)
    x = g.conv("input", 3, 16)
    kept = []
    for _ in range(2):
        y = g.add("LeakyRelu", g.conv(x, 16, 16), alpha=0.05)
        keep, rest = g.add("Split", y, g.ints(4, 12), outputs=2, axis=1)
        kept.append(keep)
        x = g.conv(rest, 12, 16)
    y = g.add("Concat", *kept, axis=1)
    mean = g.add("ReduceMean", y, axes=[2, 3], keepdims=1)
    off = g.add("Sub", y, mean)
    deviation = g.add("Sqrt", g.add("ReduceMean", g.add("Mul", off, off), axes=[2, 3], keepdims=1))
    y = g.add("Mul", y, g.add("Sigmoid", g.conv(g.add("Add", mean, deviation), 8, 8, 1)))
    g.save(name, g.add("DepthToSpace", g.conv(y, 8, 12), blocksize=2, mode="CRD"))


def lapsrn(name):
    g = Graph(planes=1)
    x = g.conv("input", 1, 8)
    x = g.add("LeakyRelu", g.conv(x, 8, 8), alpha=0.2)
    x = g.add("ConvTranspose", x, g.weights(8, 8, 4, 4), kernel_shape=[4, 4], strides=[2, 2], pads=[1] * 4)
    residual = g.conv(g.add("LeakyRelu", x, alpha=0.2), 8, 1)
    base = g.add("ConvTranspose", "input", g.weights(1, 1, 4, 4), kernel_shape=[4, 4], strides=[2, 2], pads=[1] * 4)
    g.save(name, g.add("Add", base, residual))


def swin(name):
    """Attention in windows of 8, as exported with a fixed size."""
    g = Graph(size=(16, 24))
    x = g.conv("input", 3, 12)
    tokens = g.add("Transpose", g.add("Reshape", x, g.ints(1, 12, 384)), perm=[0, 2, 1])
    y = g.add("LayerNormalization", tokens, g.constant(g.random.uniform(0.5, 1.5, 12)), g.constant(g.random.normal(0, 0.1, 12)), axis=-1)
    y = g.add("Reshape", y, g.ints(1, 2, 8, 3, 8, 12))
    y = g.add("Reshape", g.add("Transpose", y, perm=[0, 1, 3, 2, 4, 5]), g.ints(-1, 64, 12))
    qkv = g.add("MatMul", y, g.weights(12, 36))
    qkv = g.add("Transpose", g.add("Reshape", qkv, g.ints(6, 64, 3, 2, 6)), perm=[2, 0, 3, 1, 4])
    q, k, v = (g.add("Gather", qkv, g.constant(i, np.int64), axis=0) for i in range(3))
    q = g.add("Div", q, g.constant(np.sqrt(6)))
    scores = g.add("Softmax", g.add("MatMul", q, g.add("Transpose", k, perm=[0, 1, 3, 2])), axis=-1)
    y = g.add("Reshape", g.add("Transpose", g.add("MatMul", scores, v), perm=[0, 2, 1, 3]), g.ints(6, 64, 12))
    y = g.add("Transpose", g.add("Reshape", y, g.ints(1, 2, 3, 8, 8, 12)), perm=[0, 1, 3, 2, 4, 5])
    tokens = g.add("Add", tokens, g.add("Reshape", y, g.ints(1, 384, 12)))
    hidden = g.add("MatMul", tokens, g.weights(12, 24))
    erf = g.add("Erf", g.add("Div", hidden, g.constant(np.sqrt(2))))
    hidden = g.add("Mul", g.add("Mul", hidden, g.add("Add", erf, g.constant(1.0))), g.constant(0.5))
    tokens = g.add("Add", tokens, g.add("MatMul", hidden, g.weights(24, 12)))
    y = g.add("Reshape", g.add("Transpose", tokens, perm=[0, 2, 1]), g.ints(1, 12, 16, 24))
    g.save(name, g.add("DepthToSpace", g.conv(y, 12, 12), blocksize=2, mode="CRD"))


# Operators


def shuffle_by_reshape(name):
    """A pixel shuffle of shapes that are computed from the input's."""
    g = Graph(planes=1, opset=13)
    x = g.conv("input", 1, 4)
    shape = g.add("Shape", x)
    height, width = (g.add("Unsqueeze", g.add("Gather", shape, g.constant(i, np.int64), axis=0), g.ints(0)) for i in (2, 3))
    x = g.add("Reshape", x, g.add("Concat", g.ints(1, 1, 2, 2), height, width, axis=0))
    x = g.add("Transpose", x, perm=[0, 1, 4, 2, 5, 3])
    double = g.add("Mul", g.add("Slice", shape, g.ints(2), g.ints(2**63 - 1), g.ints(0)), g.ints(2, 2))
    g.save(name, g.add("Reshape", x, g.add("Concat", g.ints(1, 1), double, axis=0)))


def convolutions(name):
    """Strides, groups, dilations, paddings that are not alike, SAME."""
    g = Graph()
    x = g.conv("input", 3, 12, 3, group=3)
    y = g.conv(x, 12, 8, 3, dilations=[2, 2], pads=[2] * 4)
    y = g.add("Add", y, g.conv(x, 12, 8, 3, dilations=[1, 3], pads=[1, 3, 1, 3]))
    y = g.add("Add", y, g.conv(x, 12, 8, 4, auto_pad="SAME_UPPER"))
    y = g.add("Add", y, g.conv(x, 12, 8, 4, auto_pad="SAME_LOWER", bias=False))
    small = g.conv(y, 8, 8, 3, strides=[2, 2])
    less = g.conv(y, 8, 8, 3, strides=[3, 2], pads=[1, 1, 2, 0])
    sizes = g.add("Concat", g.ints(1, 8), g.add("Slice", g.add("Shape", y), g.ints(2), g.ints(4)), axis=0)

    def back(z):
        return g.add("Resize", z, "", "", sizes, mode="linear", coordinate_transformation_mode="half_pixel")

    y = g.add("Add", y, g.add("Add", back(small), back(less)))
    g.save(name, g.conv(y, 8, 3))


def transposed(name):
    g = Graph()
    x = g.conv("input", 3, 8)
    a = g.add("ConvTranspose", x, g.weights(8, 4, 3, 3), g.constant(g.random.normal(0, 0.1, 8)), kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1], output_padding=[1, 1], group=2)
    b = g.add("ConvTranspose", x, g.weights(8, 8, 2, 4), kernel_shape=[2, 4], strides=[2, 2], pads=[0, 1, 0, 1])
    c = g.add("ConvTranspose", x, g.weights(8, 8, 3, 2), kernel_shape=[3, 2], strides=[2, 2], dilations=[2, 1], pads=[2, 0, 1, 0])
    a = g.add("Add", a, c)
    g.save(name, g.conv(g.add("Add", a, b), 8, 3))


def activations(name, opset):
    g = Graph(opset=opset)
    x = g.conv("input", 3, 8, gain=3)
    names = ["Relu", "Sigmoid", "Tanh", "Elu", "Erf", "HardSigmoid", "Abs", "Neg", "HardSwish"]
    values = [g.add(op, x) for op in names if op != "HardSwish" or opset >= 14]
    values.append(g.add("LeakyRelu", x, alpha=0.3))
    values.append(g.add("PRelu", x, g.constant(0.2)))
    values.append(g.add("PRelu", x, g.constant(g.random.uniform(0, 1, (8, 1, 1)))))
    values.append(g.add("Clip", x, g.constant(-0.5), g.constant(0.75)))
    values.append(g.add("Clip", x, "", g.constant(0.25)))
    values.append(g.add("Pow", g.add("Abs", x), g.constant(1.5)))
    values.append(g.add("Exp", g.add("Min", x, g.constant(1.0))))
    values.append(g.add("Max", x, g.constant(0.1), g.constant(g.random.normal(0, 1, (8, 1, 1)))))
    values.append(g.add("Softmax", x, axis=1))
    values.append(g.add("Softmax", x, axis=-1))
    if opset >= 20:
        values += [g.add("Gelu", x), g.add("Gelu", x, approximate="tanh")]
    total = values[0]
    for value in values[1:]:
        total = g.add("Add", total, value)
    g.save(name, g.conv(total, 8, 3, gain=0.3))


def norms(name):
    g = Graph(opset=18)
    x = g.conv("input", 3, 8)

    def positive():
        return g.constant(g.random.uniform(0.5, 1.5, 8))

    y = g.add("BatchNormalization", x, positive(), positive(), positive(), positive(), epsilon=1e-3)
    mean = g.add("GlobalAveragePool", y)
    y = g.add("Mul", y, g.add("Sigmoid", mean))
    y = g.add("Sub", y, g.add("ReduceMean", y, g.ints(1), keepdims=1))
    turned = g.add("Transpose", y, perm=[0, 2, 3, 1])
    turned = g.add("LayerNormalization", turned, positive(), axis=-1, epsilon=1e-6)
    y = g.add("Transpose", turned, perm=[0, 3, 1, 2])
    flat = g.add("ReduceMean", y, g.ints(2, 3), keepdims=0)
    gate = g.add("Unsqueeze", g.add("MatMul", flat, g.weights(8, 8)), g.ints(2, -1))
    y = g.add("Mul", y, g.add("Expand", gate, g.ints(1, 8, 1, 1)))
    g.save(name, g.conv(y, 8, 3))


def arrangements(name):
    g = Graph(opset=13)
    x = g.conv("input", 3, 8)
    a, b, c = g.add("Split", x, g.ints(2, 3, 3), outputs=3, axis=1)
    d, e = g.add("Split", x, outputs=2, axis=1)
    y = g.add("Concat", c, a, b, axis=1)
    y = g.add("Add", y, g.add("Concat", e, d, axis=-3))
    reverse = g.add("Slice", y, g.ints(-1), g.ints(-(2**31)), g.ints(1), g.ints(-1))
    even = g.add("Slice", y, g.ints(0), g.ints(8), g.ints(1), g.ints(2))
    odd = g.add("Slice", y, g.ints(1), g.ints(2**40), g.ints(1), g.ints(2))
    y = g.add("Add", reverse, g.add("Concat", even, odd, axis=1))
    y = g.add("Squeeze", g.add("Unsqueeze", y, g.ints(0)), g.ints(0))
    y = g.add("Identity", g.add("Cast", y, to=TensorProto.FLOAT))
    for mode in ["constant", "edge", "reflect"]:
        y = g.add("Pad", y, g.ints(0, 0, 1, 2, 0, 0, 3, 1), g.constant(0.25), mode=mode)
        y = g.add("Slice", y, g.ints(2, 1), g.ints(-2, -2), g.ints(2, 3)) if mode == "edge" else g.add("Pad", y, g.ints(0, 0, -1, -2, 0, 0, -3, -1))
    zeros = g.add("ConstantOfShape", g.add("Shape", y), value=helper.make_tensor("value", TensorProto.FLOAT, [1], [0.125]))
    y = g.add("Add", y, zeros)
    y = g.add("DepthToSpace", g.conv(y, 8, 48), blocksize=4, mode="DCR")
    y = g.add("SpaceToDepth", y, blocksize=2)
    g.save(name, g.add("DepthToSpace", g.conv(y, 12, 12), blocksize=2, mode="CRD"))


def resizes(name, mode, coordinates, antialias=False, opset=19):
    """By a factor, then to sizes, larger and smaller, and back to twice the input."""
    g = Graph(opset=opset)
    settings = dict(mode=mode, coordinate_transformation_mode=coordinates)
    if mode == "nearest":
        settings["nearest_mode"] = {"asymmetric": "floor", "half_pixel": "round_prefer_floor", "align_corners": "round_prefer_ceil"}.get(coordinates, "ceil")
    if mode == "cubic":
        settings["cubic_coeff_a"] = -0.5
    if antialias:
        settings["antialias"] = 1
    region = ""
    if coordinates == "tf_crop_and_resize":
        region = g.constant([0, 0, 0.1, -0.1, 1, 1, 0.9, 1.05])
        settings["extrapolation_value"] = 0.5
    y = g.add("Resize", "input", region, g.sizes(3, 2.5), **settings)
    shape = g.add("Slice", g.add("Shape", "input"), g.ints(2), g.ints(4))
    for times, less in [(1, 5), (2, 0)]:
        sides = g.add("Sub", g.add("Mul", shape, g.ints(times, times)), g.ints(less, less))
        y = g.add("Resize", y, region, "", g.add("Concat", g.ints(1, 3), sides, axis=0), **settings)
    g.save(name, y)


def exclude_outside(name):
    g = Graph(planes=1, opset=13)
    g.save(name, g.add("Resize", "input", "", g.sizes(2), mode="cubic", exclude_outside=1, coordinate_transformation_mode="half_pixel"))


def fixed_by_shape(name):
    """A chain behind a shape that only one size has."""
    g = Graph(planes=1, size=(24, 32))
    x = g.add("Reshape", "input", g.ints(1, 1, 24, 32))
    x = g.add("Relu", g.conv(x, 1, 8))
    g.save(name, g.add("DepthToSpace", g.conv(x, 8, 4), blocksize=2, mode="CRD"))


def without_padding(name):
    """waifu2x's form: the result is smaller than the image."""
    g = Graph()
    x = "input"
    for i in range(3):
        x = g.add("LeakyRelu", g.conv(x, 3 if i == 0 else 8, 8, pads=[0] * 4), alpha=0.1)
    x = g.add("ConvTranspose", x, g.weights(8, 3, 4, 4), kernel_shape=[4, 4], strides=[2, 2], pads=[3] * 4)
    g.save(name, x)


def strided(name):
    """Half the size inside: sizes are multiples of two, and so are the starts of parts."""
    g = Graph(planes=1)
    x = g.add("Relu", g.conv("input", 1, 8, strides=[2, 2]))
    x = g.add("Relu", g.conv(x, 8, 8))
    g.save(name, g.add("DepthToSpace", g.conv(x, 8, 4), blocksize=2, mode="CRD"))


def full_range(name, relu):
    """A mean subtracted, luma in full range; at the end what a change of range may cross or not."""
    g = Graph(planes=1)
    g.metadata["range"] = "full"
    x = g.add("Mul", g.add("Sub", "input", g.constant(0.5)), g.constant(2.0))
    x = g.add("Relu", g.conv(x, 1, 16))
    x = g.conv(x, 16, 4, gain=0.7)
    if relu:
        x = g.add("Relu", x)
    g.save(name, g.add("DepthToSpace", x, blocksize=2, mode="CRD"))


def groups(name, opset):
    """Norms over groups of channels, as PyTorch exports them (before opset 21) and as one node."""
    g = Graph(opset=opset)
    x = g.conv("input", 3, 8)
    scale, offset = g.constant(g.random.uniform(0.5, 1.5, 8)), g.constant(g.random.uniform(-0.5, 0.5, 8))
    if opset >= 21:
        x = g.add("GroupNormalization", x, scale, offset, num_groups=4, epsilon=1e-4)
    else:
        flat = g.add("Reshape", x, g.ints(0, 4, -1))
        flat = g.add("InstanceNormalization", flat, g.constant(np.ones(4)), g.constant(np.zeros(4)), epsilon=1e-4)
        x = g.add("Reshape", flat, g.add("Shape", x))
        column = lambda name: g.add("Unsqueeze", name, g.ints(1, 2))
        x = g.add("Add", g.add("Mul", x, column(scale)), column(offset))
    x = g.add("Mish", x)
    x = g.conv(x, 8, 8)
    y = g.add("Mul", x, g.add("Tanh", g.add("Softplus", g.add("Mul", x, g.constant(20.0)))))
    g.save(name, g.conv(y, 8, 3))


def chroma(name):
    """ArtCNN's networks of chroma: Cb and Cr for Y, Cb and Cr; the vectors are of RGB."""
    g = Graph()
    first = g.conv("input", 3, 16)
    x = g.add("Add", g.conv(g.add("Relu", g.conv(first, 16, 16)), 16, 16), first)
    x = g.conv(x, 16, 2, gain=0.6)
    g.save(name, g.add("Clip", x, g.constant(0.0), g.constant(1.0)), convert=(ycbcr, rgb))


def chroma_that_resizes(name):
    """Two planes of three that are larger: a file that is refused."""
    g = Graph()
    g.save(name, g.add("DepthToSpace", g.conv("input", 3, 8), blocksize=2, mode="CRD"))
    (OUT / f"{name}.safetensors").unlink()
    (OUT / f"{name}.onnx").rename(OUT / f"{name}.refused")


# The weights of BT.709.
RED, BLUE = 0.2126, 0.0722


def ycbcr(image):
    """Y, Cb and Cr of full range, grey at one half, from RGB."""
    r, g, b = (image[:, i].astype(np.float64) for i in range(3))
    y = RED * r + (1 - RED - BLUE) * g + BLUE * b
    return np.stack([y, (b - y) / (2 - 2 * BLUE) + 0.5, (r - y) / (2 - 2 * RED) + 0.5], 1).astype(np.float32)


def rgb(image, chroma):
    """RGB from the luma of one image and the chroma of another."""
    y, cb, cr = (plane.astype(np.float64) for plane in (image[:, 0], chroma[:, 0], chroma[:, 1]))
    r = y + (2 - 2 * RED) * (cr - 0.5)
    b = y + (2 - 2 * BLUE) * (cb - 0.5)
    return np.stack([r, (y - RED * r - BLUE * b) / (1 - RED - BLUE), b], 1)


def main():
    espcn("espcn-tanh-x3")
    espcn("espcn-tanh-x3-f16", half=True)
    espcn_relu("espcn-x2", "CRD")
    espcn_relu("espcn-x2-blocks", "DCR")
    espcn_rgb_blocks("espcn-rgb-blocks")
    srcnn("srcnn-955", False)
    srcnn("srcnn-915-edge", True)
    acnet("acnet", False)
    acnet("acnet-full", True)
    compact("compact-x2")
    compact("compact-x4-fixed", 4, size=(16, 20))
    compact("compact-x2-f16", half=True)
    artcnn("artcnn")
    fsrcnn("fsrcnn-opset11")
    edsr("edsr-x4")
    edsr("edsr-x4-fixed-f16", size=(9, 12), half=True)
    rrdb("rrdb-x4")
    rrdb("rrdb-x2", unshuffle=2)
    span("span-x3")
    imdn("imdn-x2")
    lapsrn("lapsrn-x2")
    swin("swin-fixed")
    shuffle_by_reshape("shuffle-by-reshape")
    convolutions("convolutions")
    transposed("transposed")
    activations("activations-11", 11)
    activations("activations-20", 20)
    norms("norms")
    arrangements("arrangements")
    for mode in ["nearest", "linear", "cubic"]:
        for coordinates in ["half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric", "half_pixel_symmetric", "tf_crop_and_resize"]:
            resizes(f"resize-{mode}-{coordinates.replace('_', '-')}", mode, coordinates)
    resizes("resize-linear-antialias", "linear", "half_pixel", True)
    resizes("resize-cubic-antialias", "cubic", "half_pixel", True)
    exclude_outside("resize-cubic-exclude-outside")
    fixed_by_shape("fixed-by-shape")
    without_padding("without-padding")
    strided("strided")
    full_range("full-range-affine", False)
    full_range("full-range-relu", True)
    groups("groups-18", 18)
    groups("groups-21", 21)
    chroma("chroma")
    chroma_that_resizes("chroma-x2")


if __name__ == "__main__":
    OUT = Path(sys.argv[1])
    main()
