"""PyTorch's side of a bench of training: the worker's commands, a line each.

`training.py FOLDER` reads `load WORK ENGINE`, `run WORK ENGINE` and `drop` from standard
input, and answers as the worker in Rust does. ENGINE is `pytorch`, with `-channels-last`,
`-compiled` or both. A step is the worker's: forward pass, mean squared error, gradients,
Adam.
"""

import json
import os
import sys
import time
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from torch import nn

ENGINES = ("pytorch", "pytorch-channels-last", "pytorch-compiled", "pytorch-compiled-channels-last")
LEARNING_RATE = 1e-6


class Network(nn.Module):
    """The work's layers."""

    def __init__(self, layers):
        super().__init__()
        self.operations = [layer["op"] for layer in layers]
        modules = {}
        for i, layer in enumerate(layers):
            match layer["op"]:
                case "conv":
                    kernel = layer["kernel"]
                    modules[str(i)] = nn.Conv2d(layer["inputs"], layer["outputs"], kernel, padding=kernel // 2)
                case "relu":
                    modules[str(i)] = nn.ReLU()
                case "tanh":
                    modules[str(i)] = nn.Tanh()
                case "prelu":
                    modules[str(i)] = nn.PReLU(layer["slopes"])
                case "shuffle":
                    modules[str(i)] = nn.PixelShuffle(layer["factor"])
        self.steps = nn.ModuleDict(modules)

    def forward(self, x):
        stack = []
        for i, operation in enumerate(self.operations):
            if operation == "push":
                stack.append(x)
            elif operation == "add":
                x = x + stack.pop()
            else:
                x = self.steps[str(i)](x)
        return x


def weights(path):
    """The worker's weights, by PyTorch's names."""
    return {f"steps.{name.replace('.slope', '.weight')}": value for name, value in load_file(path).items()}


class Step:
    """A step of training, ready to be timed."""

    def __init__(self, folder, work, engine):
        channels_last = engine.endswith("channels-last")

        def tensor(end, shape):
            values = np.fromfile(folder / f"{work['name']}.{end}", "<f4")
            values = torch.from_numpy(values.reshape(shape))
            return values.to(memory_format=torch.channels_last) if channels_last else values

        self.network = Network(work["layers"])
        self.network.load_state_dict(weights(folder / f"{work['name']}.safetensors"))
        if channels_last:
            self.network = self.network.to(memory_format=torch.channels_last)
        self.run_network = torch.compile(self.network) if "compiled" in engine else self.network
        self.input, self.target = tensor("input", work["input"]), tensor("target", work["output"])
        self.optimizer = torch.optim.Adam(self.network.parameters(), lr=LEARNING_RATE, fused=True)

    def run(self):
        start = time.perf_counter()
        self.optimizer.zero_grad()
        y = self.run_network(self.input)
        nn.functional.mse_loss(y, self.target).backward()
        self.optimizer.step()
        return (time.perf_counter() - start) * 1e3

    def gradients(self):
        """In the order of the worker's."""
        parameters = {name.removeprefix("steps."): value for name, value in self.network.named_parameters()}
        slopes = {name for name in parameters if name.removesuffix(".weight") + ".bias" not in parameters}
        names = {name.replace(".weight", ".slope") if name in slopes else name: name for name in parameters}
        parts = [parameters[names[name]].grad.contiguous().flatten() for name in sorted(names)]
        return torch.cat(parts).numpy().astype("<f4")


def main():
    folder = Path(sys.argv[1])
    torch.set_num_threads(int(os.environ["RAYON_NUM_THREADS"]))
    works = {work["name"]: work for work in json.loads((folder / "works.json").read_text())}
    steps = {}
    for line in sys.stdin:
        match line.split():
            case ["load", work, engine] if engine in ENGINES:
                step = steps[work, engine] = Step(folder, works[work], engine)
                step.run()
                step.gradients().tofile(folder / f"{work}.{engine}")
                print("ok", flush=True)
            case ["run", work, engine]:
                print("ok", steps[work, engine].run(), flush=True)
            case ["drop"]:
                steps.clear()
                print("ok", flush=True)
            case _:
                print(f"error there is no command {line.strip()}", flush=True)


if __name__ == "__main__":
    main()
