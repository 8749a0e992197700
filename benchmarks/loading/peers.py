"""One peer's loader over the benchmark's list: PyTorch's DataLoader with PyAV, OpenCV or torchcodec.

Output, the same for everybody: a uint8 tensor of 16 x 112 x 112 x 3 (THWC, RGB) for each clip; frames start, start + 4, ...;
the short side scaled to 128 with a bilinear filter, the centre 112 x 112 cut out; clips stacked to batches of 8.
Prints one JSON line: clips, seconds (from the first batch asked for to the last one got, workers already started).
"""
import argparse
import csv
import json
import time

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

FRAMES, STRIDE, SHORT, CROP, BATCH = 16, 4, 128, 112, 8


def scaled(width, height):
    """Size with the short side at SHORT, and the corner of the crop."""
    scale = SHORT / min(width, height)
    w, h = max(SHORT, round(width * scale)), max(SHORT, round(height * scale))
    return w, h, (w - CROP) // 2, (h - CROP) // 2


def with_pyav(path, start):
    import av
    out = []
    with av.open(path) as container:
        stream = container.streams.video[0]
        stream.thread_type = "NONE"
        stream.codec_context.thread_count = 1
        rate, base = float(stream.average_rate), float(stream.time_base)
        first = (stream.start_time or 0) * base
        container.seek(int((first + start / rate) / base), stream=stream, backward=True)
        wanted = start
        for frame in container.decode(stream):
            number = round((frame.pts * base - first) * rate)
            if number < wanted:
                continue
            w, h, x, y = scaled(frame.width, frame.height)
            small = frame.reformat(width=w, height=h, format="rgb24", interpolation="BILINEAR").to_ndarray()
            out.append(small[y:y + CROP, x:x + CROP])
            wanted += STRIDE
            if len(out) == FRAMES:
                break
    return torch.from_numpy(np.stack(out))


def with_opencv(path, start):
    import cv2
    cv2.setNumThreads(1)
    capture = cv2.VideoCapture(path, cv2.CAP_FFMPEG, [cv2.CAP_PROP_N_THREADS, 1])
    capture.set(cv2.CAP_PROP_POS_FRAMES, start)
    w, h, x, y = scaled(int(capture.get(cv2.CAP_PROP_FRAME_WIDTH)), int(capture.get(cv2.CAP_PROP_FRAME_HEIGHT)))
    out = []
    for k in range((FRAMES - 1) * STRIDE + 1):
        if not capture.grab():
            break
        if k % STRIDE:
            continue
        _, frame = capture.retrieve()
        small = cv2.resize(frame, (w, h), interpolation=cv2.INTER_LINEAR)
        out.append(cv2.cvtColor(small[y:y + CROP, x:x + CROP], cv2.COLOR_BGR2RGB))
    return torch.from_numpy(np.stack(out))


def with_torchcodec(path, start):
    from torchcodec.decoders import VideoDecoder
    decoder = VideoDecoder(path, num_ffmpeg_threads=1, dimension_order="NHWC", seek_mode="approximate")
    frames = decoder.get_frames_at(list(range(start, start + FRAMES * STRIDE, STRIDE))).data
    w, h, x, y = scaled(frames.shape[2], frames.shape[1])
    small = torch.nn.functional.interpolate(frames.permute(0, 3, 1, 2), size=(h, w), mode="bilinear", antialias=False)
    return small[:, :, y:y + CROP, x:x + CROP].permute(0, 2, 3, 1).contiguous()


READERS = {"PyAV": with_pyav, "OpenCV": with_opencv, "torchcodec": with_torchcodec}


class Clips(Dataset):
    def __init__(self, listing, reader):
        with open(listing, newline="", encoding="utf-8") as file:
            self.rows = [(row["path"], int(row["start"]), int(row["label"])) for row in csv.DictReader(file)]
        self.read = READERS[reader]

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, i):
        path, start, label = self.rows[i]
        return self.read(path, start), label


def start_worker(_):
    torch.set_num_threads(1)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("listing")
    parser.add_argument("reader", choices=READERS)
    parser.add_argument("--workers", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(2)
    clips = Clips(arguments.listing, arguments.reader)
    order = torch.randperm(len(clips), generator=torch.Generator().manual_seed(0)).tolist()
    loader = DataLoader(clips, batch_size=BATCH, sampler=order, num_workers=arguments.workers, worker_init_fn=start_worker)
    begin, seen = time.perf_counter(), 0
    for batch, _ in loader:
        assert batch.dtype == torch.uint8 and batch.shape[1:] == (FRAMES, CROP, CROP, 3)
        seen += len(batch)
    print(json.dumps({"clips": seen, "seconds": time.perf_counter() - begin}))


if __name__ == "__main__":
    main()
