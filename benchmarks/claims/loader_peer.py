"""A PyTorch DataLoader over drawn clips, as synthetic.clip draws them for sluice: what its processes hold. Run by run.py; prints one JSON line."""
import argparse
import json

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset


class Clips(Dataset):
    def __init__(self, given):
        self.given = given

    def __len__(self):
        return self.given.clips

    def __getitem__(self, i):
        shape = (self.given.frames, self.given.size, self.given.size, 3)
        return torch.from_numpy(np.random.default_rng(i).integers(0, 128, shape, dtype=np.uint8)), i % 4


def start_worker(_):
    torch.set_num_threads(1)


def main():
    parser = argparse.ArgumentParser()
    for name in ("workers", "clips", "frames", "size", "batch"):
        parser.add_argument(f"--{name}", type=int, required=True)
    given = parser.parse_args()
    torch.set_num_threads(2)
    loader = DataLoader(Clips(given), batch_size=given.batch, num_workers=given.workers, worker_init_fn=start_worker)
    print(json.dumps({"clips": sum(len(labels) for _, labels in loader)}))


if __name__ == "__main__":
    main()
