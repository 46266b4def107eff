"""Makes PyTorch models in the folder that it is told, and what they give; run by an interpreter that has torch.

Prints as JSON what happens to each config of those in `REFUSED`, so that one process tells of all of them.
"""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch

NETS = """
import torch

class Net(torch.nn.Module):
    def __init__(self, hidden: int = 8):
        super().__init__()
        self.layers = torch.nn.Sequential(torch.nn.Linear(4, hidden), torch.nn.Tanh(), torch.nn.Linear(hidden, 3))

    def forward(self, x):
        return self.layers(x)

class Two(torch.nn.Module):
    def forward(self, x, count):
        return x * count[:, None], x.sum(dim=1)

class Named(torch.nn.Module):
    def forward(self, x):
        return {"sums": x.sum(dim=1), "doubled": 2 * x}

class NoModule:
    pass
"""

REFUSED: dict[str, dict[str, Any]] = {
    "pickle": {"model": "pickle.pt"},
    "old pickle": {"model": "old.pt"},
    "cut": {"model": "cut.pt"},
    "bent": {"model": "bent.pt"},
    "empty": {"model": "empty.pt"},
    "text": {"model": "text.pt"},
    "missing": {"model": "nets.pt"},
    "no class": {"model": "net.safetensors"},
    "not a path": {"model": "net.safetensors", "module": "nets.Net"},
    "unknown class": {"model": "net.safetensors", "module": "nets:Nett"},
    "no module": {"model": "net.safetensors", "module": "nets:NoModule"},
    "wrong kwargs": {"model": "net.safetensors", "module": "nets:Net", "kwargs": {"depth": 2}},
    "other weights": {"model": "net.safetensors", "module": "nets:Net", "kwargs": {"hidden": 9}},
    "damaged": {"model": "damaged.safetensors", "module": "nets:Net"},
    "script and class": {"model": "net.pt", "module": "nets:Net"},
    "dtype": {"model": "net.pt", "inputs": [{"name": "x", "dtype": "f4"}]},
    "one name twice": {"model": "two.pt", "outputs": ["a", "a"]},
    "device": {"model": "net.pt", "device": "quantum"},
    "unknown key": {"model": "net.pt", "treads": 2},
}


def make(folder: Path) -> None:
    """Writes the models, inputs and outputs."""
    (folder / "nets.py").write_text(NETS)
    sys.path.insert(0, str(folder))
    import nets  # type: ignore[import-not-found]

    torch.manual_seed(0)
    net, inputs = nets.Net(), torch.randn(20, 4)
    with torch.no_grad():
        np.savez(folder / "reference.npz", inputs=inputs.numpy(), outputs=net(inputs).numpy())
    torch.jit.script(net).save(str(folder / "net.pt"))
    torch.jit.script(nets.Two()).save(str(folder / "two.pt"))
    torch.jit.script(nets.Named()).save(str(folder / "named.pt"))
    torch.save(net.state_dict(), folder / "pickle.pt")
    torch.save(net.state_dict(), folder / "old.pt", _use_new_zipfile_serialization=False)
    whole = bytearray((folder / "net.pt").read_bytes())
    (folder / "cut.pt").write_bytes(whole[:1000])
    whole[whole.index(b"PK\x01\x02") + 6] = 120  # the version of zip that it wants, which no library has
    (folder / "bent.pt").write_bytes(whole)
    (folder / "empty.pt").write_bytes(b"")
    (folder / "text.pt").write_text("hello, world")
    if importlib.util.find_spec("safetensors"):
        from safetensors.torch import save_file

        save_file(net.state_dict(), folder / "net.safetensors")
        weights = (folder / "net.safetensors").read_bytes()
        (folder / "damaged.safetensors").write_bytes(weights[:-8])


def failures(folder: Path) -> dict[str, list[str]]:
    """For each of `REFUSED` the failure's code and message."""
    from mlports_models.torch_model import TorchModel
    from mlports_worker import Failure

    found = {}
    for case, config in REFUSED.items():
        if not (folder / "net.safetensors").exists() and "safetensors" in config["model"]:
            continue
        try:
            TorchModel({**config, "models_dir": str(folder)})
        except Failure as failure:
            found[case] = [failure.code, failure.message]
        else:
            found[case] = ["none", "it was loaded"]
    return found


if __name__ == "__main__":
    make(Path(sys.argv[1]))
    print(json.dumps(failures(Path(sys.argv[1]))))
