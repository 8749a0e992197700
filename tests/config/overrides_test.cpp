// Overrides of the command line.
#include <doctest/doctest.h>

#include <sluice/error.hpp>

#include "framework/config/layers.hpp"
#include "framework/config/tables.hpp"
#include "framework/config/toml.hpp"

using namespace sluice;

namespace {

const char* const base = R"([run]
seed = 1
[model]
plugin = "model.recognizer"
backbone = "backbone.small"
head = { plugin = "head.linear", dropout = 0.1 }
[[stage]]
plugin = "frames.dense"
[[stage]]
plugin = "augment.hflip"
p = 0.1
[[stage]]
plugin = "augment.hflip"
p = 0.2
[[stage]]
plugin = "augment.resize"
[[metric]]
plugin = "metric.accuracy"
)";

std::string after(const std::vector<std::string>& overrides) {
  Table table = parse_toml(base, "f", 0);
  apply_overrides(table, overrides);
  return write_toml(table);
}

std::string with(std::string from, const std::string& replace, const std::string& by) {
  const auto at = from.find(replace);
  REQUIRE(at != std::string::npos);
  return from.replace(at, replace.size(), by);
}

}  // namespace

TEST_CASE("values are TOML, or text where they are none") {
  const std::string same = after({});
  const std::pair<const char*, const char*> cases[] = {
      {"run.seed=8", "seed = 8\n"},           {"run.seed=-8", "seed = -8\n"},         {"run.seed=0x10", "seed = 16\n"},        {"run.seed=0.5", "seed = 0.5\n"},
      {"run.seed=true", "seed = true\n"},      {"run.seed=1536MiB", "seed = \"1536MiB\"\n"}, {"run.seed=/data/a b", "seed = \"/data/a b\"\n"}, {"run.seed='8'", "seed = \"8\"\n"},
      {"run.seed=\"a\\tb\"", "seed = \"a\\tb\"\n"}, {"run.seed=[1, 2]", "seed = [1, 2]\n"}, {"run.seed={a = 1}", "seed = { a = 1 }\n"}, {"run.seed=", "seed = \"\"\n"},
      {"run.seed = 8 ", "seed = 8\n"},        {"run.seed=a=b", "seed = \"a=b\"\n"},   {"run.seed=2024-05-17", "seed = \"2024-05-17\"\n"}, {"run.seed=8 # x", "seed = 8\n"}};
  for (const auto& [text, line] : cases) {
    CAPTURE(text);
    CHECK(after({text}) == with(same, "seed = 1\n", line));
  }
}

TEST_CASE("elements are addressed by number, by name, by occurrence, by the last word") {
  const std::string same = after({});
  CHECK(after({"stage.1.p=0.9"}) == with(same, "p = 0.1", "p = 0.9"));
  CHECK(after({"stage.augment.hflip.p=0.9"}) == with(same, "p = 0.1", "p = 0.9"));
  CHECK(after({"stage.augment.hflip#2.p=0.9"}) == with(same, "p = 0.2", "p = 0.9"));
  CHECK(after({"stage.dense.frames=8"}) == with(same, "\"frames.dense\"\n", "\"frames.dense\"\nframes = 8\n"));
  CHECK(after({"metric.accuracy.topk=[1]"}) == with(same, "\"metric.accuracy\"\n", "\"metric.accuracy\"\ntopk = [1]\n"));
  CHECK(after({"metric.metric.accuracy.topk=[1]"}) == with(same, "\"metric.accuracy\"\n", "\"metric.accuracy\"\ntopk = [1]\n"));
  CHECK(after({"stage.3.plugin=augment.crop", "stage.augment.crop.size=9"}) == with(same, "\"augment.resize\"\n", "\"augment.crop\"\nsize = 9\n"));
}

TEST_CASE("a nested plugin is swapped, also where the file has its short form") {
  const std::string same = after({});
  CHECK(after({"model.backbone=backbone.wide"}) == with(same, "\"backbone.small\"", "\"backbone.wide\""));
  CHECK(after({"model.backbone.width=8"}) == with(same, "\"backbone.small\"", "{ plugin = \"backbone.small\", width = 8 }"));
  CHECK(after({"model.backbone.plugin=backbone.wide"}) == with(same, "\"backbone.small\"", "{ plugin = \"backbone.wide\" }"));
  CHECK(after({"model.head.dropout=0.5"}) == with(same, "dropout = 0.1", "dropout = 0.5"));
  CHECK(after({"eval.every=2", "eval.every=3"}).find("[eval]\nevery = 3\n") != std::string::npos);
}

TEST_CASE("what is no override says why") {
  const std::pair<const char*, const char*> cases[] = {
      {"run.seed", "an override is written key=value"},
      {"=5", "an override is written key=value"},
      {"run..seed=5", "'run..seed' is no key"},
      {".seed=5", "is no key"},
      {"run.seed.deep=5", "run.seed is a whole number, it has no keys"},
      {"stage.9.p=1", "there is no stage.9"},
      {"stage.-1.p=1", "no element of stage is called '-1.p'"},
      {"stage.99999999999999999999.p=1", "there is no stage."},
      {"stage.augment.vflip.p=1", "stage has: 0 frames.dense, 1 augment.hflip, 2 augment.hflip#2, 3 augment.resize"},
      {"run.seed=[1, 2", "'[1, 2' is no TOML value"},
      {"run.seed={a", "is no TOML value"},
      {"run.seed='a", "is no TOML value"},
      {"run.seed=\xFF", "not UTF-8"},
      {"extends=base.toml", "extended by a file"},
      {"a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a=1", "more than 16 parts"}};
  for (const auto& [text, why] : cases) {
    CAPTURE(text);
    CHECK_THROWS_WITH(static_cast<void>(after({text})), doctest::Contains(why));
    CHECK_THROWS_WITH(static_cast<void>(after({text})), doctest::Contains("command line: "));
  }
}
