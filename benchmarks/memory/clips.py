"""The samples that sluice trains on here, for who trains on them beside it: what tests/fixtures/synthetic.cpp draws, in the order of framework/flow/order.hpp.

    batches = write_clips(WORK, samples=48, frames=8, size=112)

writes clips [N, T, H, W, C] in 0..255 and their labels, in the order in which an epoch of N samples takes them with the seed of synthetic_pipeline().
"""
import numpy as np

SEED = 7
CLASSES = 4


def mix_bits(x):  # sdk/include/sluice/rng.hpp, for arrays of uint64, which wrap as it does
    x = x + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def mix(x):
    return int(mix_bits(np.array([x & (1 << 64) - 1], np.uint64))[0])


def order(samples, seed=SEED, epoch=0):
    if samples < 2:
        return list(range(samples))
    key = mix(mix(seed ^ 0x53485546464C4531) ^ epoch)
    x = np.arange(samples, dtype=np.uint64)
    for r in range(6 * (samples - 1).bit_length() + 24):
        pivot = np.uint64(mix(key + 2 * r) * samples >> 64)
        partner = np.where(pivot >= x, pivot - x, pivot + np.uint64(samples) - x)
        swapped = mix_bits(np.uint64(mix(key + 2 * r + 1)) ^ np.maximum(x, partner)) >> np.uint64(63) == 1
        x = np.where(swapped, partner, x)
    return [int(i) for i in x]


def draw(numbers, frames, size):
    numbers = np.array(numbers, np.uint64)
    labels = (mix_bits(numbers) % np.uint64(CLASSES)).astype(np.int64)
    words = np.empty((len(numbers), frames * size * size * 3 // 8), "<u8")
    bits = numbers
    for i in range(words.shape[1]):
        bits = mix_bits(bits + np.uint64(8 * i))
        words[:, i] = bits
    clips = (words.view(np.uint8) & 127).reshape(len(numbers), frames, size, size, 3)
    side = size // 4
    for clip, label in zip(clips, labels):
        top, left = label // 2 % 2 * (size - side), label % 2 * (size - side)
        clip[:, top:top + side, left:left + side] = 255
    return clips, labels


def save_clips(folder, clips, labels):
    """A folder that training_peer.py reads batch by batch."""
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / "clips.npy", clips)
    np.save(folder / "labels.npy", labels)
    return folder


def write_clips(work, samples, frames, size):
    return save_clips(work / f"clips_{samples}_{frames}x{size}", *draw(order(samples), frames, size))
