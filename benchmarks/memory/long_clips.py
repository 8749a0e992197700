"""Does the peak of a training follow the length of its videos? pipelines/long_video.toml in chunks, beside PyTorch on whole clips (M3). A part of training.py.

PyTorch trains the same network on frames of the same files, and r3d_18, one clip at a time, on drawn ones.
"""
import shutil
import subprocess

import numpy as np

from sides import WORK, run_peer  # first: it says where measured_runs is
from clips import draw, save_clips
from measured_runs import MIB, ROOT, train

WIDTH = 32
STEPS = 3
LENGTHS, PEER_LENGTHS = (64, 256, 1024, 4096), (64, 256)
COLUMNS = f"{'peak':>8}{'net':>8}{'s/step':>9}{'peak to the shortest':>22}"


def sluice(frames, size):
    pipeline = WORK / "long_video.toml"
    WORK.mkdir(parents=True, exist_ok=True)
    shutil.copy(ROOT / "pipelines" / "long_video.toml", pipeline)
    keys = [f"data.root={WORK / 'order6'}", f"data.train={STEPS}", "data.val=1", f"data.frames={frames}", f"data.size={size}", "data.flash=4", "batch.size=1", f"run.steps={STEPS}", "run.device=cpu",
            "plan.chunk=32", "budget.compute_threads=2", "model.shrink=1", f"model.width={WIDTH}", 'optimizer={plugin="optimizer.sgd", lr=0.0001, momentum=0.9}', "eval.every=0"]
    run = train(pipeline, *keys)
    return {"peak": run["peak"], "base": run["accounts"]["base"], "seconds": run["seconds"]}


def frames_of_files(frames, size):
    """The training videos that source.order6 wrote, in a folder for the peer."""
    files = [file for file in sorted((WORK / "order6").glob(f"{size}x{frames}-*/train/*/*.mp4"))][:STEPS]
    raw = [subprocess.run(["ffmpeg", "-v", "error", "-i", file, "-f", "rawvideo", "-pix_fmt", "rgb24", "-"], capture_output=True, check=True).stdout for file in files]
    clips = np.stack([np.frombuffer(pixels, np.uint8).reshape(frames, size, size, 3) for pixels in raw])
    return save_clips(WORK / f"long_{frames}", clips, np.arange(len(clips)))


def pytorch(model, frames, size):
    steps = STEPS
    if model == "long_recognizer":
        clips = frames_of_files(frames, size)
    else:
        steps = 2
        clips = save_clips(WORK / f"drawn_{frames}", *draw(range(steps), frames, size))
    return run_peer("--clips", clips, "--batch", 1, "--microbatch", 1, "--steps", steps, "--model", model, "--width", WIDTH)


def block(table, size, quick=False):
    table.title(f"long videos of {size} x {size}, a clip a step", COLUMNS)
    lengths = (*PEER_LENGTHS, LENGTHS[-1]) if quick else LENGTHS
    sides = [("sluice, model.long_recognizer, chunks of 32", "sluice", lengths, sluice), ("PyTorch, the same network, whole clips", "PyTorch", PEER_LENGTHS, lambda t, s: pytorch("long_recognizer", t, s)),
             ("PyTorch, r3d_18, whole clips", "PyTorch r3d_18", PEER_LENGTHS, lambda t, s: pytorch("r3d_18", t, s))]
    for name, side, lengths_of_side, measure in sides:
        shortest = None
        for frames in lengths_of_side:
            title = f"{name}, T = {frames}"
            figures = table.attempt(title, lambda t=frames: measure(t, size))
            if not figures:
                continue
            shortest = shortest or figures
            row = {"part": "long", "side": side, "name": title, "frames": frames, **figures, "growth": figures["peak"] / shortest["peak"]}
            table.add(row, f"{figures['peak'] / MIB:>8.0f}{(figures['peak'] - figures['base']) / MIB:>8.0f}{figures['seconds']:>9.2f}{row['growth']:>22.3f}")
