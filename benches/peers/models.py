"""The works' networks as ONNX models, and the peers that run them."""

import logging
import time

import numpy as np
import onnx
import onnxruntime as ort
import openvino as ov
from onnx import TensorProto, helper, numpy_helper
from onnxruntime import quantization
from safetensors.numpy import load_file

# Quantisation asks for a clean-up that these models do not need.
logging.getLogger().setLevel(logging.ERROR)

OPSET = 17
# The newest that all pinned versions read.
IR_VERSION = 10


def build(work, weights_path, path):
    """Writes the work's network with the worker's weights."""
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
        return self.result.numpy()


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
