"""The format's own package beside ours: checks the files that we wrote in a folder, and writes one for us to read."""
import pathlib
import sys

import safetensors
import safetensors.torch
import torch

inf = float("inf")
wanted = {
    "a.f64": torch.tensor([0.1, -0.0, inf, -inf, float("nan"), 5e-324], dtype=torch.float64),
    "b.f32": torch.tensor([[[1.5, -2.25, 3.0], [4.0, 0.1, -0.0]]], dtype=torch.float32),
    "c.f16": torch.tensor([1.0, -2.0, inf], dtype=torch.float16),
    "d.bf16": torch.tensor([0x3F80, 0xC000 - 0x10000, 0x7F80, 0x0001], dtype=torch.int16).view(torch.bfloat16).reshape(2, 2),
    "e.i64": torch.tensor([-(2**63), -1, 7], dtype=torch.int64),
    "f.i32": torch.tensor(-5, dtype=torch.int32),
    "g.u8": torch.tensor([[0], [1], [255]], dtype=torch.uint8),
    "h.bool": torch.tensor([True, False, True]),
    "i.empty": torch.zeros((0, 4)),
    '层 "quoted" \\ \n': torch.tensor([0, 1, 255], dtype=torch.uint8),
}
metadata = {"format": "pt", "note": '"ü"\n'}


def raw(tensor):
    return tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes() if tensor.numel() else b""


folder = pathlib.Path(sys.argv[1])
with safetensors.safe_open(folder / "ours.safetensors", framework="pt") as file:
    assert file.metadata() == metadata, file.metadata()
    assert set(file.keys()) == set(wanted), file.keys()
    for name, tensor in wanted.items():
        found = file.get_tensor(name)
        assert found.dtype == tensor.dtype and found.shape == tensor.shape, (name, found.dtype, found.shape)
        assert raw(found) == raw(tensor), name
with safetensors.safe_open(folder / "none.safetensors", framework="pt") as file:
    assert list(file.keys()) == []
safetensors.torch.save_file(wanted, folder / "theirs.safetensors", metadata)
