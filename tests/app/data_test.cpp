// data bench and data show, on data whose content is known.
#include <doctest/doctest.h>

#include <nlohmann/json.hpp>

#include "command.hpp"

using namespace sluice::testing;
using nlohmann::json;
namespace fs = std::filesystem;

// Catches clips that are lost or counted twice at the ends of passes, and output that benchmarks/loading could not read: its last
// line is one JSON object.
TEST_CASE("data bench counts every clip of every pass, inside the budget") {
  const Desk sluice;
  sluice.write("a.toml", data_pipeline);
  for (const auto* workers : {"1", "2", "3", "7"}) {
    const Finished run = sluice({"data", "bench", "a.toml", "--epochs", "3", "--json", std::string("budget.workers=") + workers});
    INFO(run.err);
    REQUIRE(run.code == 0);
    CHECK(std::count(run.out.begin(), run.out.end(), '\n') == 1);
    const json result = json::parse(run.out);
    CHECK(result["clips"] == 60);
    CHECK(result["failed"] == 0);
    CHECK(result["seconds"].get<double>() > 0);
    CHECK(result["clips_per_second"].get<double>() == doctest::Approx(60 / result["seconds"].get<double>()).epsilon(1e-9));
    CHECK(result["samples_peak_bytes"].get<std::uint64_t>() <= result["samples_bytes"].get<std::uint64_t>());
    CHECK(result["resident_peak_bytes"].get<std::uint64_t>() < 256u << 20);
  }
  CHECK(json::parse(sluice({"data", "bench", "a.toml", "--split", "val", "--json"}).out)["clips"] == 6);
  CHECK(json::parse(sluice({"data", "bench", "a.toml", "--json", "batch.drop_last=true"}).out)["clips"] == 16);
  CHECK(has(sluice({"data", "bench", "a.toml"}).out, "20 clips in 3 batches"));
  const Finished small = sluice({"data", "bench", "a.toml", "budget.host_ram=20MiB"});
  INFO(small.out << small.err);
  CHECK(small.code == 2);  // refused, with what would do
  CHECK(has(small.err, "MiB"));
}

namespace {

// Height x width x 3 bytes of a picture, by ffmpeg: another decoder than the library that wrote it.
std::string pixels_of(const fs::path& png) {
  const fs::path raw = png.string() + ".rgb";
  REQUIRE(std::system(("ffmpeg -v error -y -i '" + png.string() + "' -f rawvideo -pix_fmt rgb24 '" + raw.string() + "' </dev/null").c_str()) == 0);
  return text_of_file(raw);
}

}  // namespace

// Catches a sheet that shows something else than what the network sees: swapped colours (blue and red), rows of stages missing, a
// mirror that is not shown, frames in the wrong order. The video is red on the left and blue on the right; its second second
// is green on the left.
TEST_CASE("data show draws every stage, as it is") {
  const Desk sluice("ein Ordner 汉字");
  fs::create_directories(sluice.folder() / "videos" / "cat");
  const std::string graph = "color=red:s=32x64:r=4:d=1[a];color=0x00ff00:s=32x64:r=4:d=1[b];[a][b]concat[l];color=blue:s=32x64:r=4:d=2[r];[l][r]hstack";
  REQUIRE(std::system(("ffmpeg -v error -f lavfi -i '" + graph + "' -c:v libx264rgb -qp 0 '" + (sluice.folder() / "videos" / "cat" / "a b.mp4").string() + "' </dev/null").c_str()) == 0);
  sluice.write("p.toml", R"([data]
plugin = "source.video_list"
train = "videos"
[[stage]]
plugin = "frames.uniform"
frames = 8
[[stage]]
plugin = "decode.ffmpeg"
[[stage]]
plugin = "augment.hflip"
p = 1.0
)");
  const Finished run = sluice({"data", "show", "p.toml", "--out", "blatt 表.png", "--height", "64"});
  INFO(run.out << run.err);
  REQUIRE(run.code == 0);
  // "blatt 表.png: W x H pixels, 1 sample, 2 rows behind 3 stages"
  std::size_t width = 0, height = 0;
  const auto at = run.out.find(".png: ") + 6;
  REQUIRE(std::sscanf(run.out.c_str() + at, "%zu x %zu", &width, &height) == 2);
  CHECK(has(run.out, "2 rows"));
  const std::string pixels = pixels_of(sluice.folder() / "blatt 表.png");
  REQUIRE(pixels.size() == width * height * 3);

  // The frames of a row, by their colours along a line: (left, right) of each.
  const auto name_of = [&](std::size_t y, std::size_t x) {
    const auto* p = reinterpret_cast<const unsigned char*>(pixels.data()) + (y * width + x) * 3;
    if (p[0] > 200 && p[1] < 60 && p[2] < 60) return 'R';
    if (p[1] > 200 && p[0] < 60 && p[2] < 60) return 'G';
    if (p[2] > 200 && p[0] < 60 && p[1] < 60) return 'B';
    return '.';
  };
  std::vector<std::string> rows;
  for (std::size_t y = 0; y < height; ++y) {
    std::string row;
    for (std::size_t x = 0; x < width; ++x)
      if (const char c = name_of(y, x); row.empty() || row.back() != c) row += c;
    if (has(row, "B") && (rows.empty() || rows.back() != row)) rows.push_back(row);
  }
  const std::string decoded = ".RB.RB.RB.RB.GB.GB.GB.GB.", mirrored = ".BR.BR.BR.BR.BG.BG.BG.BG.";
  REQUIRE(rows.size() == 2);
  CHECK(rows[0] == decoded);
  CHECK(rows[1] == mirrored);
}

// Catches an overlay that swallows the KEY=VALUE behind it, one that wins over it, and one whose mistake is said to be the pipeline's.
TEST_CASE("--with puts a file on top of the pipeline, below KEY=VALUE") {
  const Desk sluice;
  sluice.write("p.toml", data_pipeline);
  sluice.write("ten.toml", "[data]\ntrain = 10\n");
  sluice.write("six.toml", "[data]\ntrain = 6\n");
  sluice.write("wrong.toml", "[data]\ntrain = 10\n[batch]\nsise = 3\n");
  const auto clips = [&](std::vector<std::string> arguments) {
    arguments.insert(arguments.begin(), {"data", "bench"});
    arguments.emplace_back("--json");
    const Finished run = sluice(arguments);
    INFO(run.err);
    CHECK(run.code == 0);
    return run.out.substr(0, run.out.find(',', run.out.find("\"clips\"")));
  };
  CHECK(has(clips({"p.toml", "--with", "ten.toml"}), "\"clips\":10"));
  CHECK(has(clips({"p.toml", "--with", "ten.toml", "data.train=12"}), "\"clips\":12"));
  CHECK(has(clips({"p.toml", "--with", "ten.toml", "--with", "six.toml"}), "\"clips\":6"));
  CHECK(has(clips({"--with", "six.toml", "--with", "ten.toml", "p.toml"}), "\"clips\":10"));
  const Finished wrong = sluice({"inspect", "p.toml", "--with", "wrong.toml"});
  CHECK(wrong.code == 2);
  CHECK(has(wrong.err, "wrong.toml:4:1: [batch] has no key 'sise'"));
  const Finished missing = sluice({"inspect", "p.toml", "--with", "missing.toml"});
  CHECK(missing.code != 0);
  CHECK(has(missing.err, "missing.toml"));
}
