"""Runs that the benchmarks share: sluice over synthetic clips, and any program with the memory of it and its children.

    file = synthetic_pipeline(WORK)
    plan(file, "batch.size=4")["accounts"]
    train(file, "batch.size=4", "run.steps=3")["peak"]

Keys override those of the pipeline, as on the command line. Memory in bytes.
"""
import contextlib
import json
import os
import pathlib
import shutil
import statistics
import subprocess
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
BUILD = ROOT / "build" / "release"
SLUICE = BUILD / "bin" / "sluice"
MIB = 1 << 20

PIPELINE = """[run]
name = "synthetic"
steps = 3
seed = 7
[budget]
host_ram = "8GiB"
workers = 1
compute_threads = 2
[plugins]
path = ["{plugins}"]
[data]
plugin = "source.synthetic"
train = 160
val = 0
[[stage]]
plugin = "synthetic.clip"
frames = 8
size = [112, 112]
[batch]
size = 16
[model]
plugin = "model.recognizer"
backbone = {{ plugin = "backbone.r3d_18" }}
head = {{ plugin = "head.linear" }}
batch_norm = "frozen"
[loss]
plugin = "loss.cross_entropy"
[optimizer]
plugin = "optimizer.sgd"
lr = 0.0001
momentum = 0.9
"""


class Failed(SystemExit):
    """A command that did not work, with its last words. It ends the benchmark unless that has other rows to measure."""


def synthetic_pipeline(work):
    """A pipeline file in `work` whose samples cost nothing: 8 x 112 x 112, r3d_18, batches of 16."""
    work.mkdir(parents=True, exist_ok=True)
    file = work / "synthetic.toml"
    file.write_text(PIPELINE.format(plugins=BUILD / "tests" / "plugins"), encoding="utf-8")
    return file


def clips_of(frames, size):
    return [f"stage.clip.frames={frames}", f"stage.clip.size=[{size}, {size}]"]


def sluice(*words):
    """What a verb prints."""
    done = subprocess.run([SLUICE, *words], capture_output=True, text=True, check=False)
    if done.returncode:
        raise Failed(f"sluice {' '.join(map(str, words))}: {done.stderr}")
    return done.stdout


def plan(file, *keys):
    return json.loads(sluice("plan", file, "--json", *keys))


def wait_for(process):
    """Its VmHWM in bytes once it has ended. The ru_maxrss that wait4 gives is no less than what this process held when it started the other."""
    peak = 0
    while process.poll() is None:
        with contextlib.suppress(OSError, IndexError):
            peak = max(peak, 1024 * int(pathlib.Path(f"/proc/{process.pid}/status").read_text(encoding="utf-8").split("VmHWM:")[1].split()[0]))
        time.sleep(0.005)
    return peak


def train(file, *keys):
    """A run into the folder `run` beside the file: `peak` (VmHWM), `accounts` at its end, `resident` as they were counted, `seconds` of a step (median, without the first)."""
    folder = file.parent / "run"
    shutil.rmtree(folder, ignore_errors=True)
    with open(file.parent / "out.txt", "wb") as out:
        process = subprocess.Popen([SLUICE, "train", file, f"run.dir={folder}", *keys], stdout=out, stderr=subprocess.STDOUT)
        peak = wait_for(process)
    if process.returncode != 0:
        raise Failed(f"sluice train {' '.join(keys)}: {(file.parent / 'out.txt').read_text(encoding='utf-8')}")
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    steps = [row["time"]["waiting"] + row["time"]["computing"] for row in rows if row["kind"] == "step"]
    accounts = rows[-1]["memory"]
    return {"peak": peak, "resident": accounts.pop("resident"), "accounts": accounts, "seconds": statistics.median(steps[1:] or steps)}


def tree_pss(pid):
    """Sum of the proportional set sizes of a process and its descendants."""
    total = 0
    try:
        with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as file:
            for line in file:
                if line.startswith("Pss:"):
                    total += int(line.split()[1]) * 1024
        for task in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{task}/children", encoding="ascii") as file:
                total += sum(tree_pss(int(child)) for child in file.read().split())
    except OSError:
        pass
    return total


def run_program(command, sample_memory):
    """The JSON of its last line, and the peak of tree_pss, sampled every 20 ms; 0 where it is not sampled, for a sampler costs the measured side time."""
    process = subprocess.Popen([str(c) for c in command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    peak = 0
    while sample_memory and process.poll() is None:
        peak = max(peak, tree_pss(process.pid))
        time.sleep(0.02)
    out, err = process.communicate()
    if process.returncode:
        raise Failed(f"{' '.join(map(str, command))}\nexit {process.returncode}\n{err[-2000:]}")
    return json.loads(out.strip().splitlines()[-1]), peak
