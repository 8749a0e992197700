// Which chunks a long clip may go through in, and what is refused beside them.
#include <ATen/core/Tensor.h>
#include <c10/util/Logging.h>  // its CHECK gives way to doctest's, which comes after it
#include <doctest/doctest.h>

#include <string>
#include <vector>

#include <sluice/error.hpp>

#include "framework/train/chunk_choice.hpp"
#include "long_fakes.hpp"

using namespace sluice;
using namespace sluice::fakes;

namespace {

using Frames = std::vector<std::int64_t>;

class WithNorms final : public Model {
 public:
  std::vector<NamedTensor> weights() override { return {}; }
  std::vector<NamedTensor> statistics() override { return {}; }
  void set_training(bool) override {}
  void move_to(at::Device) override {}
  std::int64_t batch_norms(bool) override { return 3; }
};

template <class Function> std::string refusal(Function&& function) {
  try {
    function();
  } catch (const Error& error) {
    return error.message() + " | " + error.hint();
  }
  return {};
}
bool says(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

}  // namespace

TEST_CASE("chunks: pinned, saved, or powers of two; a clip that is no longer than one stays whole") {
  const LongModel model(3, {}), strided(3, {.stride = 6}), whole_clips(3, {.declared = 0});
  const TinyModel other(3, at::kFloat);
  CHECK(chunks_to_try(model, {0, {}}, {}, 64) == Frames{0});
  CHECK(chunks_to_try(model, {0, {}}, {}, 65) == Frames{64, 32, 16});
  CHECK(chunks_to_try(strided, {0, {}}, {}, 500) == Frames{66, 36, 18});
  CHECK(chunks_to_try(model, {0, {}}, 48, 65) == Frames{48});
  CHECK(chunks_to_try(model, {0, {}}, 0, 65) == Frames{0});
  CHECK(chunks_to_try(model, {20, {}}, 48, 65) == Frames{20});
  CHECK(chunks_to_try(model, {65, {}}, {}, 65) == Frames{0});
  CHECK(chunks_to_try(other, {0, {}}, {}, 6500) == Frames{0});
  CHECK(says(refusal([&] { static_cast<void>(chunks_to_try(other, {16, {}}, {}, 65)); }), "looks at whole clips"));
  CHECK(says(refusal([&] { static_cast<void>(chunks_to_try(strided, {16, {}}, {}, 65)); }), "write 18"));
}

// Catches: batch norm that silently takes its statistics over a chunk.
TEST_CASE("batch norm is refused unless it is frozen, and so are several clips at a time") {
  WithNorms norms;
  LongModel none(3, {});
  Pipeline pipeline;
  CHECK(refusal([&] { check_chunked(none, pipeline); }) == "");
  CHECK(says(refusal([&] { check_chunked(norms, pipeline); }), "3 batch norm layers"));
  CHECK(says(refusal([&] { check_chunked(norms, pipeline); }), "\"frozen\""));
  pipeline.model.batch_norm.mode = BatchNormConfig::Mode::group;
  pipeline.model.batch_norm.group = 1;
  CHECK(says(refusal([&] { check_chunked(norms, pipeline); }), "GroupNorm"));
  pipeline.model.batch_norm.mode = BatchNormConfig::Mode::frozen;
  CHECK(refusal([&] { check_chunked(norms, pipeline); }) == "");
  pipeline.batch.microbatch.value = 2;
  CHECK(says(refusal([&] { check_chunked(none, pipeline); }), "batch.microbatch = 2"));
}
