"""The real tensorboard package reads the folders that tensorboard_test.cpp wrote."""
import io
import math
import pathlib
import sys

import numpy
import PIL.Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

folder = pathlib.Path(sys.argv[1])


def load(name):
    events = EventAccumulator(str(folder / name), size_guidance={"scalars": 0, "tensors": 0, "images": 0})
    events.Reload()
    return events


first = load("first")
assert first.file_version == 2.0, first.file_version
tags = first.Tags()
assert set(tags["scalars"]) == {"train/loss", "odd values"}, tags
assert set(tags["tensors"]) == {"pipeline/text_summary", "long/text_summary"}, tags
assert tags["images"] == ["sheet"], tags

loss = first.Scalars("train/loss")
assert [event.step for event in loss] == list(range(1, 301))
assert all(event.value == numpy.float32(1 / event.step) for event in loss)
assert abs(loss[0].wall_time - __import__("time").time()) < 600

odd = first.Scalars("odd values")
assert [event.step for event in odd] == [0, 2**40, 2**40 + 1]
assert math.isnan(odd[0].value) and odd[1].value == math.inf and odd[2].value == numpy.float32(1e-42)

text = first.Tensors("pipeline/text_summary")[0].tensor_proto
assert text.string_val[0].decode() == '```toml\nname = "视"\n```', text
assert [dim.size for dim in text.tensor_shape.dim] == [1]
assert first.SummaryMetadata("pipeline/text_summary").plugin_data.plugin_name == "text"
assert first.Tensors("long/text_summary")[0].tensor_proto.string_val[0] == b"x" * 100000

image = first.Images("sheet")[0]
assert (image.step, image.width, image.height) == (7, 1, 1)
assert PIL.Image.open(io.BytesIO(image.encoded_image_string)).convert("RGB").getpixel((0, 0)) == (255, 0, 0)

resumed = [(event.step, event.value) for event in load("resumed").Scalars("loss")]
wanted = [(step, 1.0 if step <= 10 else 2.0 if step <= 15 else 3.0) for step in range(1, 21)]
assert resumed == wanted, resumed
