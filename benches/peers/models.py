"""The works' networks as models, and the peers that run them."""

import contextlib
import io
import logging
import os
import time
from pathlib import Path

# Otherwise OpenVINO and NNCF report that they are used, to their makers.
os.environ["CI"] = "true"

import ncnn
import nncf
import numpy as np
import onnx
import onnxruntime as ort
import openvino as ov
from onnx import TensorProto, helper, numpy_helper
from onnxruntime import quantization
from safetensors.numpy import load_file

# Quantisation asks for a clean-up that these models do not need.
logging.getLogger().setLevel(logging.ERROR)
nncf.set_log_level(logging.ERROR)

OPSET = 17
# The newest that all pinned versions read.
IR_VERSION = 10

# The first line of a `.param` file.
NCNN_MAGIC = 7767517


def build(work, weights_path, path):
    """Writes the work's network with the worker's weights as an ONNX model."""
    weights = load_file(weights_path)
    nodes, tensors, stack = [], [], []
    value = "input"

    def tensor(name, shape=None):
        array = weights[name]
        tensors.append(numpy_helper.from_array(array.reshape(shape or array.shape), name))
        return name

    for i, layer in enumerate(work["layers"]):
        inputs, settings = [value], {}
        match layer["op"]:
            case "conv":
                kind = "Conv"
                inputs += [tensor(f"{i}.weight"), tensor(f"{i}.bias")]
                settings = {"pads": [layer["kernel"] // 2] * 4}
            case "deconv":
                kind = "ConvTranspose"
                inputs += [tensor(f"{i}.weight"), tensor(f"{i}.bias")]
                stride = layer["stride"]
                settings = {
                    "strides": [stride] * 2,
                    "pads": [layer["kernel"] // 2] * 4,
                    "output_padding": [stride - 1] * 2,
                }
            case "relu":
                kind = "Relu"
            case "tanh":
                kind = "Tanh"
            case "prelu":
                kind = "PRelu"
                inputs.append(tensor(f"{i}.slope", (layer["slopes"], 1, 1)))
            case "shuffle":
                kind = "DepthToSpace"
                settings = {"blocksize": layer["factor"], "mode": "CRD"}
            case "push":
                stack.append(value)
                continue
            case "add":
                kind = "Add"
                inputs.append(stack.pop())
            case op:
                raise ValueError(f"no ONNX for {op}")
        value = f"value{i}"
        nodes.append(helper.make_node(kind, inputs, [value], name=f"{kind}{i}", **settings))
    nodes[-1].output[0] = "output"
    pictures = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, work[name])
        for name in ("input", "output")
    ]
    graph = helper.make_graph(nodes, work["name"], pictures[:1], pictures[1:], tensors)
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION
    )
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)


class Once(quantization.CalibrationDataReader):
    """The one picture that the ranges of values are taken from."""

    def __init__(self, picture):
        self.pictures = [{"input": picture}]

    def get_next(self):
        return self.pictures.pop() if self.pictures else None


def quantise(path, picture, out):
    """Writes the model with 8-bit weights and values (QDQ)."""
    quantization.quantize_static(
        path,
        out,
        Once(picture),
        quant_format=quantization.QuantFormat.QDQ,
        per_channel=True,
        activation_type=quantization.QuantType.QUInt8,
        weight_type=quantization.QuantType.QInt8,
    )


def quantise_openvino(path, picture, out):
    """Writes the model as OpenVINO's own quantiser makes it."""
    # It draws progress bars on standard output.
    with contextlib.redirect_stdout(io.StringIO()):
        model = nncf.quantize(
            ov.Core().read_model(path),
            nncf.Dataset([picture]),
            # Symmetric: MIXED leaves deconvolutions in f32.
            preset=nncf.QuantizationPreset.PERFORMANCE,
            target_device=nncf.TargetDevice.CPU,
            subset_size=1,
        )
    ov.save_model(model, out, compress_to_fp16=False)


def build_ncnn(work, weights_path, path, largest=()):
    """Writes the work's network as PATH.param and PATH.bin; its convolutions in 8
    bits if the largest value that goes into each is given."""
    weights = load_file(weights_path)
    scales = iter([127 / value for value in largest])
    _, channels, height, width = work["input"]
    steps, arrays, stack = [], [], []

    def step(kind, inputs, settings, outputs=None):
        outputs = outputs or [f"value{len(steps)}"]
        # ncnn chooses between its algorithms by the shapes.
        shapes = [3, width, height, channels] * len(outputs)
        settings[-23330] = ",".join(map(str, [len(shapes), *shapes]))
        steps.append((kind, inputs, outputs, settings))
        return outputs

    def kernel(layer):
        inputs, outputs, size = layer["inputs"], layer["outputs"], layer["kernel"]
        # With padding and a bias.
        return {0: outputs, 1: size, 4: size // 2, 5: 1, 6: inputs * outputs * size * size}

    (value,) = step("Input", [], {0: width, 1: height, 2: channels}, ["input"])
    for i, layer in enumerate(work["layers"]):
        before, _, _, before_settings = steps[-1]
        match layer["op"]:
            case "conv":
                weight, bias = weights[f"{i}.weight"], weights[f"{i}.bias"]
                channels = layer["outputs"]
                settings = kernel(layer)
                scale = next(scales, None)
                if scale and before == "Convolution":
                    # That one's output becomes 8 bits too.
                    before_settings[8] = 102
                    arrays.append(scale)
                # 0 is the tag of f32 weights, which ncnn quantises when it loads them.
                arrays += [0, weight, bias]
                if scale:
                    settings[8] = 2
                    arrays += [127 / np.abs(weight).max(axis=(1, 2, 3)), scale]
                elif channels < 8:
                    # Not as a matrix product, which is slower for so few channels.
                    settings[31] = 1 << 5
                (value,) = step("Convolution", [value], settings)
            case "deconv":
                # ncnn has these in f32 only.
                weight, bias = weights[f"{i}.weight"], weights[f"{i}.bias"]
                stride = layer["stride"]
                channels, height, width = layer["outputs"], stride * height, stride * width
                arrays += [0, weight.swapaxes(0, 1), bias]
                settings = kernel(layer) | {3: stride, 18: stride - 1}
                (value,) = step("Deconvolution", [value], settings)
            case "relu" if before == "Convolution":
                before_settings[9] = 1
            case "prelu":
                arrays.append(weights[f"{i}.slope"])
                (value,) = step("PReLU", [value], {0: layer["slopes"]})
            case "tanh":
                (value,) = step("TanH", [value], {})
            case "shuffle":
                factor = layer["factor"]
                channels //= factor * factor
                height, width = factor * height, factor * width
                (value,) = step("PixelShuffle", [value], {0: factor})
            case "push":
                value, pushed = step("Split", [value], {}, [f"{value}.0", f"{value}.1"])
                stack.append(pushed)
            case "add":
                (value,) = step("BinaryOp", [value, stack.pop()], {0: 0})
            case op:
                raise ValueError(f"no ncnn for {op}")
    steps[-1][2][0] = "output"
    blobs = sum(len(outputs) for _, _, outputs, _ in steps)
    lines = [f"{NCNN_MAGIC}", f"{len(steps)} {blobs}"]
    for i, (kind, inputs, outputs, settings) in enumerate(steps):
        words = [kind, f"{kind}{i}", len(inputs), len(outputs), *inputs, *outputs]
        words += [f"{key}={value}" for key, value in settings.items()]
        lines.append(" ".join(map(str, words)))
    Path(f"{path}.param").write_text("\n".join(lines) + "\n")
    data = b"".join(np.asarray(array, "<f4").tobytes() for array in arrays)
    Path(f"{path}.bin").write_bytes(data)


class OnnxRuntime:
    """ONNX Runtime on its CPU provider."""

    name = "onnxruntime"

    def __init__(self, path, picture, shape, threads):
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
        self.session = ort.InferenceSession(path, options, ["CPUExecutionProvider"])
        # Both pictures stay where they are, as everybody else's do.
        self.input = ort.OrtValue.ortvalue_from_numpy(picture)
        self.result = ort.OrtValue.ortvalue_from_numpy(np.zeros(shape, np.float32))
        self.binding = self.session.io_binding()
        self.binding.bind_ortvalue_input("input", self.input)
        self.binding.bind_ortvalue_output("output", self.result)

    def run(self):
        start = time.perf_counter()
        self.session.run_with_iobinding(self.binding)
        return (time.perf_counter() - start) * 1e3

    def output(self):
        self.run()
        # Without the copy it would be gone with the engine.
        return self.result.numpy().copy()


class OpenVino:
    """OpenVINO on its CPU plugin, the precision of its arithmetic pinned."""

    name = "openvino"

    def __init__(self, path, picture, shape, threads, precision):
        settings = {
            "INFERENCE_PRECISION_HINT": precision,
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": 1,
            "PERFORMANCE_HINT": "LATENCY",
        }
        core = ov.Core()
        self.request = core.compile_model(path, "CPU", settings).create_infer_request()
        self.result = np.zeros(shape, np.float32)
        self.request.set_input_tensor(ov.Tensor(picture, shared_memory=True))
        self.request.set_output_tensor(ov.Tensor(self.result, shared_memory=True))

    @staticmethod
    def has_bf16():
        """Whether this machine computes in bf16 rather than imitating it."""
        return "BF16" in ov.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")

    def run(self):
        start = time.perf_counter()
        self.request.infer()
        return (time.perf_counter() - start) * 1e3

    def output(self):
        self.run()
        return self.result.copy()


class Ncnn:
    """ncnn on the CPU; what is not in 8 bits is f32."""

    name = "ncnn"

    def __init__(self, path, picture, threads, precision):
        self.net = ncnn.Net()
        options = self.net.opt
        options.num_threads = threads
        options.use_fp16_packed = options.use_fp16_storage = options.use_fp16_arithmetic = False
        options.use_bf16_packed = options.use_bf16_storage = False
        # In 8 bits Winograd is slower, and leaves only 6 to the weights.
        options.use_winograd_convolution = precision == "f32"
        # With ncnn's own pools each call ends in a copy of the output.
        self.values, self.workspace = ncnn.PoolAllocator(), ncnn.PoolAllocator()
        self.values.set_size_compare_ratio(0)
        # In f32 no small value may take a large piece: 7 GB at 720p instead of 12.
        self.workspace.set_size_compare_ratio(0.75 if precision == "f32" else 0)
        if self.net.load_param(f"{path}.param") or self.net.load_model(f"{path}.bin"):
            raise ValueError(f"ncnn cannot load {path}")
        # A copy, as numpy's memory may be aligned too little.
        self.input = ncnn.Mat(picture[0]).clone()

    def extractor(self):
        """What a call needs of its own, with the picture in it."""
        extractor = self.net.create_extractor()
        extractor.set_blob_allocator(self.values)
        extractor.set_workspace_allocator(self.workspace)
        extractor.input("input", self.input)
        return extractor

    def run(self):
        start = time.perf_counter()
        with self.extractor() as extractor:
            extractor.extract("output")
        return (time.perf_counter() - start) * 1e3

    def output(self):
        with self.extractor() as extractor:
            return array(extractor, "output")

    def largest(self):
        """The largest value that goes into each convolution."""
        with self.extractor() as extractor:
            # Keeps the values between the layers.
            extractor.set_light_mode(False)
            layers = [layer for layer in self.net.layers() if layer.type == "Convolution"]
            return [float(np.abs(array(extractor, layer.bottoms[0])).max()) for layer in layers]


def array(extractor, value):
    """A copy of a value, as ncnn's own must not outlive the pools."""
    return np.array(extractor.extract(value)[1])
