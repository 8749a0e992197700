// The report of a card that is full, of figures that are made up: no card is needed.
#include <ATen/core/Tensor.h>
#include <c10/util/Logging.h>  // its CHECK gives way to doctest's, which comes after it
#include <doctest/doctest.h>

#include <string>

#include "framework/base/bytes.hpp"
#include "framework/train/card_report.hpp"

using namespace sluice;

namespace {

// As LibTorch 2.13 composes it for a card that another process shares.
const std::string shared_card =
    "CUDA out of memory. Tried to allocate 20.00 MiB. GPU 0 has a total capacity of 15.50 GiB of which 150.00 MiB is free. Process 1839 has 322.00 MiB memory in use. Including non-PyTorch memory, this "
    "process has 11.50 GiB memory in use. 12.00 GiB allowed; Of the allocated memory 10.25 GiB is allocated by PyTorch, with 4.00 MiB allocated in private pools (e.g., CUDA Graphs), and 512 bytes is reserved by "
    "PyTorch but unallocated. If reserved but unallocated memory is large try setting PYTORCH_ALLOC_CONF=expandable_segments:True to avoid fragmentation.";

CardRefusal refusal_with(std::string words) {
  CardRefusal refusal;
  refusal.words = std::move(words);
  refusal.tensors = {.live = 300 * MiB, .peak = 9 * GiB, .held = 1300 * MiB, .footprint = 10 * GiB};
  refusal.card = {.total = 16 * GiB, .free = 4 * GiB};
  refusal.given = 11 * GiB;
  refusal.planned.parameters = 127 * MiB;
  refusal.planned.gradients = 126 * MiB;
  refusal.planned.optimizer = 125 * MiB;
  refusal.planned.activations = 10 * GiB;
  return refusal;
}

// What stands behind the name of a line; empty: there is no such line.
std::string line(const std::string& report, const std::string& name) {
  const auto at = report.find("\n  " + name + " ");
  if (at == std::string::npos) return {};
  const auto begin = report.find_first_not_of(' ', at + 3 + name.size());
  return report.substr(begin, report.find('\n', begin) - begin);
}

}  // namespace

// Catches: figures of the moment after, when the pass has let go of its tensors, in place of those of the refusal; "512 bytes" read as MiB; the first
// "and" taken for that of the sentence.
TEST_CASE("the figures of the refusal come from LibTorch's words, in five lines") {
  CardRefusal refusal = refusal_with(shared_card);
  refusal.others = {{1839, "python", 322 * MiB}};
  const std::string report = report_of(refusal);
  INFO(report);
  CHECK(line(report, "requested") == "20.0 MiB");
  CHECK(line(report, "allocated") == "10.2 GiB; planned: parameters 127 MiB, gradients 126 MiB, optimizer 125 MiB, activations 10.0 GiB");
  CHECK(line(report, "reserved") == "512 B kept for reuse; device_memory leaves 11.0 GiB for tensors");
  CHECK(line(report, "free") == "150 MiB of 15.5 GiB; this process held 11.5 GiB, with what the driver takes for it");
  // 3.85 GiB are neither free nor ours, of which one process is named.
  CHECK(line(report, "others") == "'python' (1839) 322 MiB, 3.54 GiB that the driver does not name");
  CHECK(line(report, "LibTorch").empty());
  CHECK(hint_of(refusal) == "end what else holds the card's memory, or write budget.device_memory = \"11926MiB\", what there was for this process: the plan then takes no more");
}

// Catches: a report that is empty, or wrong, as soon as LibTorch says it in another way.
TEST_CASE("words that are not known are shown as they are, and the counters stand in") {
  const CardRefusal refusal = refusal_with("XPU is out of memory\nsomewhere");
  const std::string report = report_of(refusal);
  INFO(report);
  CHECK(line(report, "requested") == "more than there was");
  CHECK(line(report, "allocated").starts_with("at most 9.00 GiB; planned: parameters 127 MiB"));
  CHECK(line(report, "reserved").starts_with("0.98 GiB kept for reuse"));
  CHECK(line(report, "free") == "4.00 GiB of 16.0 GiB");
  CHECK(line(report, "others") == "none");
  CHECK(line(report, "LibTorch") == "XPU is out of memory");
  CHECK(hint_of(refusal).starts_with("lower budget.device_memory below what is free"));
}

TEST_CASE("of many others the largest are named; who is not to be seen from here, or whose bytes the driver keeps to itself, by number") {
  CardRefusal refusal = refusal_with("out of memory");
  refusal.others = {{11, "train", 5 * GiB}, {12, "", 2 * GiB}, {13, "Xorg", 0}, {14, "a", 0}, {15, "b", 0}};
  CHECK(line(report_of(refusal), "others") == "'train' (11) 5.00 GiB, process (12) 2.00 GiB, 'Xorg' (13), 2 more");
}
