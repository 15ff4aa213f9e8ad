#!/usr/bin/env bash
# spandrel 0.4.2, SPAN: what a block hands on is changed by its own activation afterwards.
#
# A block reads `out1 = c1_r(x); out1_act = act1(out1); ...; return out, out1, sim_att`, and the network
# concatenates the last block's `out1`.
# Guess: `out1` is the convolution's result, before the activation, as the names say.
# Seen: act1 is SiLU(inplace=True), so `out1` is the activated feature. With the same activations
# not in place, the pictures differ. Who writes the network anew has to concatenate
# SiLU(out1).
#
# Needs Python 3.11 with venv, the network for pip and 6 GB of disk; outside CI.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.15.0 torchvision==0.29.2 \
    spandrel==0.4.2
cat > "$dir/look.py" <<'END'
import torch
from spandrel.architectures.SPAN import SPAN

torch.manual_seed(0)
network = SPAN(num_in_ch=3, num_out_ch=3, feature_channels=48, upscale=2).eval()
x = torch.rand(1, 3, 32, 32)
with torch.no_grad():
    convolved = network.block_6.c1_r(x.repeat(1, 16, 1, 1))
    handed_on = network.block_6(x.repeat(1, 16, 1, 1))[1]
    print("handed on as convolved:", torch.equal(handed_on, convolved))
    print("handed on as activated:", torch.equal(handed_on, torch.nn.functional.silu(convolved)))
    in_place = network(x)
    for number in range(1, 7):
        network.get_submodule(f"block_{number}").act1.inplace = False
    print("the same pictures:", torch.equal(in_place, network(x)))
END
"$dir/venv/bin/python" "$dir/look.py" 2> /dev/null | tee "$dir/found"
diff "$dir/found" - <<'END'
handed on as convolved: False
handed on as activated: True
the same pictures: False
END
