#!/usr/bin/env bash
# super-image 0.2.0: EDSR holds the means of the training set and does not use them.
#
# Its weights have the names of EDSR-PyTorch's, `sub_mean` and `add_mean` (mean of DIV2K, in 0 to 255)
# among them.
# Guess: the forward pass subtracts the first and adds the second, as EDSR-PyTorch's does, and its CARN
# does.
# Seen: EdsrModel's output stays the same, to the bit, whatever the two hold. A program that takes the
# file for one of EDSR-PyTorch and applies the means changes the picture.
#
# Needs Python 3.11 with venv, the network for pip and 6 GB of disk; outside CI.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.15.0 torchvision==0.29.2 \
    huggingface_hub==2.4.0 h5py==3.16.0 opencv-python-headless==5.0.0.93 pillow==13.0.0 requests==2.34.2 \
    tqdm==4.70.1 numpy==2.4.6
"$dir/venv/bin/pip" install --quiet --disable-pip-version-check --no-deps super-image==0.2.0
cat > "$dir/look.py" <<'END'
import torch
from super_image import CarnConfig, CarnModel, EdsrConfig, EdsrModel

x = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
for network in (EdsrModel(EdsrConfig(scale=2)), CarnModel(CarnConfig(scale=2))):
    network.eval()
    means = [name for name in network.state_dict() if name.endswith("mean.bias")]
    with torch.no_grad():
        before = network(x)
        for name in means:
            network.get_parameter(name).add_(100)
        after = network(x)
    print(type(network).__name__, *means, "used" if not torch.equal(before, after) else "not used")
END
"$dir/venv/bin/python" "$dir/look.py" 2> /dev/null | tee "$dir/found"
diff "$dir/found" - <<'END'
EdsrModel sub_mean.bias add_mean.bias not used
CarnModel sub_mean.bias add_mean.bias used
END
