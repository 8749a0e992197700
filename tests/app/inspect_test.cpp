// What there is and what a pipeline becomes, against the plugins built and the page of the documentation.
#include <doctest/doctest.h>

#include <nlohmann/json.hpp>

#include "command.hpp"
#include "framework/config/load.hpp"
#include "framework/plugin/registry.hpp"

using namespace sluice::testing;
using nlohmann::json;
namespace fs = std::filesystem;

// Catches a plugin that was built and is not found (a manifest the linker dropped, a name held twice), and one that went missing.
TEST_CASE("plugins lists all that are built in, and inspect shows each") {
  const Desk sluice;
  const Finished run = sluice({"plugins", "--json"});
  REQUIRE(run.code == 0);
  const json list = json::parse(run.out);
  CHECK(list["refused"].empty());
  std::vector<std::string> names, files;
  for (const auto& one : list["plugins"]) names.push_back(one["name"]), files.push_back(fs::path(one["file"].get<std::string>()).filename().string());
  std::size_t built = 0;
  for (const auto& entry : fs::directory_iterator(fs::path(SLUICE_BINARY_DIR) / "lib" / "sluice" / "plugins")) {
    INFO(entry.path());
    CHECK(std::find(files.begin(), files.end(), entry.path().filename().string()) != files.end());
    ++built;
  }
  CHECK(built > 20);
  for (const auto* name : {"source.motion8", "source.order6", "source.video_list", "frames.uniform", "frames.dense", "frames.clips", "frames.all", "decode.ffmpeg", "augment.resize", "augment.random_crop",
                           "augment.center_crop", "augment.random_resized_crop", "augment.hflip", "augment.vflip", "augment.color_jitter", "augment.random_erasing", "augment.grayscale",
                           "augment.reverse", "model.recognizer", "model.long_recognizer", "backbone.r3d", "backbone.r3d_18", "backbone.mc3_18", "backbone.r2plus1d_18", "backbone.slow_r50", "head.linear",
                           "loss.cross_entropy", "optimizer.sgd", "optimizer.adam", "optimizer.adamw", "schedule.constant", "schedule.step", "schedule.multistep", "schedule.cosine",
                           "schedule.linear", "metric.accuracy", "metric.mean_class", "metric.confusion"}) {
    INFO(name);
    CHECK(std::find(names.begin(), names.end(), name) != names.end());
  }
  for (const auto& name : names) {
    const Finished shown = sluice({"inspect", name});
    INFO(name << "\n" << shown.out << shown.err);
    CHECK(shown.code == 0);
    CHECK(shown.out.starts_with(name));
    CHECK(has(shown.out, "plugin = \"" + name + "\""));
  }
  for (const std::string name : {"source.video_list", "decode.ffmpeg", "augment.hflip", "backbone.r3d_18", "optimizer.adamw"}) {  // one of each form
    const Finished shown = sluice({"inspect", name});
    const json plugin = json::parse(sluice({"inspect", name, "--json"}).out);
    CHECK(plugin["name"] == name);
    CHECK(!plugin["help"].get<std::string>().empty());
    for (const auto& field : plugin["fields"]) {
      CHECK(has(shown.out, field["name"].get<std::string>()));
      CHECK(!field["help"].get<std::string>().empty());
    }
  }
}

// Catches a reference that no longer says what the program does: the page is the program's own output. To renew it:
//   sluice inspect --keys
TEST_CASE("docs/pipelines.md holds the keys as the program prints them") {
  const Desk sluice;
  const std::string printed = sluice({"inspect", "--keys"}).out;
  const std::string page = text_of_file(fs::path(SLUICE_SOURCE_DIR) / "docs" / "pipelines.md");
  const auto begin = page.find("<!-- sluice inspect --keys -->\n"), end = page.find("<!-- end of keys -->");
  REQUIRE(begin != std::string::npos);
  REQUIRE(end != std::string::npos);
  const auto from = page.find('\n', begin) + 1;
  CHECK(page.substr(from, end - from) == printed.substr(printed.find('\n') + 1));  // without its title
}

// Catches an example in the documentation that the program refuses.
TEST_CASE("the example of docs/pipelines.md is a pipeline") {
  const Desk desk;
  const std::string page = text_of_file(fs::path(SLUICE_SOURCE_DIR) / "docs" / "pipelines.md");
  const auto begin = page.find("```toml\n") + 8;
  desk.write("example.toml", page.substr(begin, page.find("```", begin) - begin));
  sluice::Registry registry;
  registry.add_builtin();
  try {
    const sluice::Pipeline pipeline = sluice::load_pipeline(desk.folder() / "example.toml", {}, registry);
    CHECK(pipeline.stages.size() == 3);
    CHECK(pipeline.notices.empty());
  } catch (const std::exception& error) {
    FAIL(error.what());
  }
}

// Catches a misspelt name that is answered with "no" alone.
TEST_CASE("unknown names get the nearest") {
  const Desk sluice;
  for (const auto& [typed, meant] : std::vector<std::pair<std::string, std::string>>{{"augment.hflop", "augment.hflip"}, {"hflip", "augment.hflip"}, {"r3d_18", "backbone.r3d_18"}, {"optimizer.adamW", "optimizer.adamw"}}) {
    const Finished run = sluice({"inspect", typed});
    INFO(run.err);
    CHECK(run.code == 2);
    CHECK(has(run.err, "did you mean"));
    CHECK(has(run.err, meant));
  }
}

// Catches a graph that is not the one that runs: wrong order, a queue without a bound, bytes by another shape. The numbers are
// the fixture's: 4 frames of 32 x 32 x 3 are 12,288 bytes.
TEST_CASE("inspect shows the graph of a pipeline, every queue bounded in items and bytes") {
  const Desk sluice;
  sluice.write("a.toml", data_pipeline);
  const Finished text = sluice({"inspect", "a.toml"});
  INFO(text.err);
  REQUIRE(text.code == 0);
  CHECK(has(text.out, "admission -> synthetic.clip"));
  CHECK(has(text.out, "synthetic.clip -> augment.hflip"));
  const json graph = json::parse(sluice({"inspect", "a.toml", "--json"}).out);
  REQUIRE(graph["parts"].size() == 2);
  CHECK(graph["parts"][0]["split"] == "train");
  CHECK(graph["parts"][0]["stages"].size() == 2);
  CHECK(graph["parts"][1]["stages"].size() == 1);  // the mirror is for training
  CHECK(graph["parts"][0]["samples"] == 20);
  CHECK(graph["parts"][1]["samples"] == 6);
  CHECK(graph["classes"].size() == 4);
  bool clip = false;
  for (const auto& stream : graph["parts"][0]["streams"])
    if (stream["name"] == "clip") clip = stream["bytes"] == 4 * 32 * 32 * 3;
  CHECK(clip);
  CHECK(graph["queues"].size() >= 5);
  for (const auto& queue : graph["queues"]) {
    INFO(queue.dump());
    CHECK(queue["items"].get<std::int64_t>() > 0);
    CHECK(queue["items"].get<std::int64_t>() < 1000);
    CHECK(queue["bytes"].get<std::uint64_t>() >= 4 * 32 * 32 * 3);
    CHECK(queue["bytes"].get<std::uint64_t>() < 256u << 20);
  }
  // in_flight is what bounds the items
  const json narrow = json::parse(sluice({"inspect", "a.toml", "--json", "budget.in_flight=9"}).out);
  CHECK(narrow["in_flight"] == 9);
}

// Catches advice that is not given, and advice where there is nothing to advise.
TEST_CASE("inspect says when a resize follows a decoder that could scale itself") {
  const Desk sluice;
  fs::create_directories(sluice.folder() / "videos" / "cat");
  REQUIRE(std::system(("ffmpeg -v error -f lavfi -i testsrc2=size=64x48:rate=10:duration=2 '" + (sluice.folder() / "videos" / "cat" / "a.mp4").string() + "' </dev/null").c_str()) == 0);
  const auto pipeline = [](const std::string& decoder, const std::string& between) {
    return "[data]\nplugin = \"source.video_list\"\ntrain = \"videos\"\n[[stage]]\nplugin = \"frames.dense\"\n[[stage]]\nplugin = \"decode.ffmpeg\"\n" + decoder + between +
           "[[stage]]\nplugin = \"augment.resize\"\nshort_side = 32\n";
  };
  const auto advised = [&](const std::string& text) {
    sluice.write("p.toml", text);
    const Finished run = sluice({"inspect", "p.toml"});
    INFO(run.out << run.err);
    CHECK(run.code == 0);
    return has(run.out, "advice: p.toml:") || has(run.out, "p.toml:8:");
  };
  CHECK(advised(pipeline("", "")));
  CHECK(advised(pipeline("", "[[stage]]\nplugin = \"augment.hflip\"\n")));
  CHECK(!advised(pipeline("short_side = 40\n", "")));
  CHECK(!advised(pipeline("", "[[stage]]\nplugin = \"augment.center_crop\"\nsize = [40, 40]\n")));
}
