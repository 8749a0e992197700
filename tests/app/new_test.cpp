// new pipeline and new stage: what is found, what is written, what is refused.
#include <doctest/doctest.h>

#include <nlohmann/json.hpp>
#include <sys/stat.h>

#include "command.hpp"
#include "framework/app/recommend.hpp"

using namespace sluice;
using namespace sluice::testing;
using nlohmann::json;
namespace fs = std::filesystem;

namespace {

void video(const fs::path& file, double seconds, const std::string& size = "64x48", int rate = 10) {
  fs::create_directories(file.parent_path());
  const std::string command = "ffmpeg -v error -y -f lavfi -i testsrc2=size=" + size + ":rate=" + std::to_string(rate) + ":duration=" + std::to_string(seconds) +
                              " -c:v libx264 -preset ultrafast -pix_fmt yuv420p " + quoted(file) + " </dev/null";
  REQUIRE(std::system(command.c_str()) == 0);
}

// The same bytes under other names: the header index goes by file.
void copies(const fs::path& file, std::initializer_list<const char*> names) {
  for (const auto* name : names) {
    fs::create_directories((file.parent_path().parent_path() / name).parent_path());
    fs::copy(file, file.parent_path().parent_path() / name);
  }
}

}  // namespace

// Catches wrong counts, a split that leaves a class out, a broken file that is skipped in silence or ends the command, paths that
// are not quoted in the file or in the next command.
TEST_CASE("new pipeline on a folder for each class") {
  const Desk sluice("mein Ordner 文件");
  const fs::path videos = sluice.folder() / "die Videos 视频";
  video(videos / "links 左" / "0.mp4", 2);
  copies(videos / "links 左" / "0.mp4", {"links 左/1.mp4", "links 左/2.mp4", "links 左/3.mp4", "it's \"b\"/0.mp4", "it's \"b\"/1.mp4"});
  video(videos / "it's \"b\"" / "long one.mp4", 4);
  std::ofstream(videos / "links 左" / "broken.mp4") << text_of_file(videos / "links 左" / "0.mp4").substr(0, 2000);

  const Finished run = sluice({"new", "pipeline", "--data", "die Videos 视频", "--split", "0.6"});
  INFO(run.out << run.err);
  REQUIRE(run.code == 0);
  CHECK(has(run.out, "2 classes"));
  CHECK(has(run.out, "20 to 40 frames, median 20"));
  CHECK(has(run.out, "2.00 to 4.00 s, median 2.00"));
  CHECK(has(run.out, "10 frames/s"));
  CHECK(has(run.out, "1 video cannot be used:"));
  CHECK(has(run.out, "broken.mp4: "));
  CHECK(has(run.out, "sluice check 'die Videos 视频.toml'"));
  CHECK(has(run.out, "sluice train 'die Videos 视频.toml'"));

  const Finished graph = sluice({"inspect", "die Videos 视频.toml", "--json"});
  INFO(graph.err);
  REQUIRE(graph.code == 0);
  const json seen = json::parse(graph.out);
  CHECK(seen["classes"] == json({"it's \"b\"", "links 左"}));
  CHECK(seen["parts"][0]["videos"].get<int>() + seen["parts"][1]["videos"].get<int>() == 7);
  CHECK(seen["failed"].size() == 1);
  CHECK(has(sluice.read("die Videos 视频.toml"), "max_failures = 1"));

  // Catches a file of a person's that is lost.
  sluice.write("die Videos 视频.toml", "mine");
  const Finished again = sluice({"new", "pipeline", "--data", "die Videos 视频"});
  CHECK(again.code == 2);
  CHECK(has(again.err, "--force"));
  CHECK(sluice.read("die Videos 视频.toml") == "mine");
  CHECK(sluice({"new", "pipeline", "--data", "die Videos 视频", "--force"}).code == 0);
  CHECK(has(sluice.read("die Videos 视频.toml"), "source.video_list"));
  fs::create_symlink("nowhere", sluice.folder() / "link.toml");
  CHECK(sluice({"new", "pipeline", "--data", "die Videos 视频", "--out", "link.toml"}).code == 2);
}

// Catches a val/ that is thrown together with train/ and split anew, rates that differ and are not made equal, sizes that differ and
// end in a batch that cannot be stacked.
TEST_CASE("new pipeline with train/ and val/, mixed sizes and rates; a list; a link to a folder") {
  const Desk sluice;
  const fs::path data = sluice.folder() / "data";
  video(data / "train" / "a" / "0.mp4", 3, "320x180", 10);
  video(data / "train" / "b" / "0.mp4", 3, "180x320", 30);
  fs::create_directories(data / "val" / "a"), fs::create_directories(data / "val" / "b");
  fs::copy(data / "train" / "a" / "0.mp4", data / "val" / "a" / "1.mp4");
  fs::copy(data / "train" / "b" / "0.mp4", data / "val" / "b" / "1.mp4");
  const Finished run = sluice({"new", "pipeline", "--data", "data", "--out", "p.toml"});
  INFO(run.out << run.err);
  REQUIRE(run.code == 0);
  const std::string text = sluice.read("p.toml");
  CHECK(!has(text, "split"));
  CHECK(has(text, "rate = 8 "));         // 16 frames in 2 s
  CHECK(has(text, "short_side = 128"));
  CHECK(has(text, "path = \"data\""));  // so that both can be moved together
  const json graph = json::parse(sluice({"inspect", "p.toml", "--json"}).out);
  CHECK(graph["parts"][0]["videos"] == 2);
  CHECK(graph["parts"][1]["videos"] == 2);
  for (const auto& part : graph["parts"])
    for (const auto& stream : part["streams"])
      if (stream["name"] == "clip") CHECK(stream["shape"] == "uint8 [T 16, H 112, W 112, C 3]");

  sluice.write("list.csv", "\xEF\xBB\xBFpath,label\r\n\"data/train/a/0.mp4\",x\r\ndata/train/b/0.mp4,y\r\ndata/val/a/1.mp4,x\r\ndata/val/b/1.mp4,y\r\nmissing.mp4,y\r\n");
  const Finished list = sluice({"new", "pipeline", "--data", "list.csv", "--split", "0.5"});
  INFO(list.out << list.err);
  CHECK(list.code == 0);
  CHECK(has(list.out, "list.csv:6"));
  CHECK(json::parse(sluice({"inspect", "list.toml", "--json"}).out)["parts"][0]["videos"] == 2);

  // A name that no TOML file can hold: the hint says to make a link, and that works.
  fs::create_directory_symlink(data, sluice.folder() / "d\xE9");
  const Finished latin = sluice({"new", "pipeline", "--data", "d\xE9", "--out", "latin.toml"});
  CHECK(latin.code == 2);
  CHECK(has(latin.err, "make a link"));
  fs::rename(data, sluice.folder() / "e\xE9");
  fs::create_directory_symlink("e\xE9", sluice.folder() / "good");
  CHECK(sluice({"new", "pipeline", "--data", "good/", "--out=-good.toml"}).code == 0);
  CHECK(has(sluice.read("-good.toml"), "path = \"good\""));
  CHECK(has(sluice({"new", "pipeline", "--data", "good", "--out=-good.toml", "--force"}).out, "sluice check ./-good.toml"));
  fs::rename(sluice.folder() / "e\xE9", data);

  // Neither is read for ever.
  REQUIRE(mkfifo((sluice.folder() / "pipe.csv").c_str(), 0600) == 0);
  CHECK(sluice({"new", "pipeline", "--data", "pipe.csv"}, 10).code == 4);
  CHECK(sluice({"new", "pipeline", "--data", "/dev/zero"}, 10).code == 4);
  fs::create_directory(sluice.folder() / "empty");
  CHECK(sluice({"new", "pipeline", "--data", "empty"}).code == 4);
  fs::create_directories(sluice.folder() / "unlabelled");
  fs::copy(data / "train" / "a" / "0.mp4", sluice.folder() / "unlabelled" / "0.mp4");
  const Finished unlabelled = sluice({"new", "pipeline", "--data", "unlabelled"});
  CHECK(unlabelled.code == 4);
  CHECK(has(unlabelled.err, "label"));
}

// Catches clips that are mirrored although left and right are what is to be learnt.
TEST_CASE("mirrors follow the names of the classes") {
  const auto mirror = [](std::initializer_list<const char*> names) {
    std::vector<app::Survey::Class> classes;
    for (const auto* name : names) classes.push_back({name, 1, 1});
    return app::mirror_of(classes);
  };
  CHECK(mirror({"run", "jump"}).sure);
  CHECK(mirror({"run", "jump"}).labels.empty());
  CHECK(mirror({"swipe_left", "swipe_right", "tap"}).labels == std::map<std::string, std::string>{{"swipe_left", "swipe_right"}, {"swipe_right", "swipe_left"}});
  CHECK(mirror({"Left to right", "Right to left"}).labels.size() == 2);
  CHECK(!mirror({"Left to right", "right to left"}).sure);  // the opposite may be another class with another spelling: not known
  CHECK(!mirror({"swipe_left", "tap"}).sure);
  CHECK(!mirror({"turn clockwise", "turn counterclockwise"}).sure);
  CHECK(!mirror({"0", "1", "2"}).sure);
  CHECK(!mirror({"caf\xE9"}).sure);
}

// Catches choices that cannot train: a clip longer than any video, a crop larger than the frame, a batch larger than the data.
TEST_CASE("what is recommended fits the videos") {
  for (const double side : {16, 48, 64, 128, 144, 240, 1080})
    for (const double frames : {1, 5, 30, 300, 100000})
      for (const std::int64_t train : {1, 3, 10, 100, 5000, 1000000}) {
        app::Survey survey;
        survey.train = train;
        survey.frames = {frames, frames, frames};
        survey.rate = {25, 25, 25};
        survey.seconds = {frames / 25, frames / 25, frames / 25};
        survey.short_side = survey.height = {side, side, side};
        survey.width = {side, side, side + 2};
        const auto choice = app::recommend(survey);
        INFO(side << " pixels, " << frames << " frames, " << train << " videos");
        CHECK((choice.frames == 4 || choice.frames == 8 || choice.frames == 16));
        CHECK((frames < 4 || static_cast<double>((choice.frames - 1) * choice.stride + 1) <= frames));
        CHECK(choice.crop > 0);
        CHECK(choice.crop <= *choice.short_side);
        CHECK((choice.batch >= 2 && choice.batch <= 16));
        CHECK((train < 8 || choice.batch <= train / 4));
        CHECK((choice.epochs >= 1 && choice.epochs <= 60));
      }
}

// Catches a template that grew past what is promised (a stage is below 20 lines) or that would overwrite somebody's work.
TEST_CASE("new stage writes a short file, and nothing over another") {
  const Desk sluice;
  const Finished run = sluice({"new", "stage", "augment.motion_blur"});
  REQUIRE(run.code == 0);
  const std::string source = sluice.read("augment.motion_blur/motion_blur.cpp");
  CHECK(std::count(source.begin(), source.end(), '\n') <= 20);
  CHECK(has(source, "SLUICE_STAGE(MotionBlur, \"augment.motion_blur\")"));
  CHECK(has(sluice.read("augment.motion_blur/CMakeLists.txt"), "find_package(sluice REQUIRED)"));
  CHECK(has(run.out, "cmake --build"));
  CHECK(has(run.out, "[plugins]"));
  const Finished again = sluice({"new", "stage", "augment.motion_blur"});
  CHECK(again.code == 2);
  CHECK(sluice.read("augment.motion_blur/motion_blur.cpp") == source);
}
