// source.video_list: what becomes of a list or a folder, and of every way in which one can be wrong.
#include <doctest/doctest.h>

#include <sys/stat.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <set>

#include "../support/plugin_host.hpp"
#include "../support/scratch_folder.hpp"

using namespace sluice;
using namespace sluice::testing;
namespace fs = std::filesystem;

namespace {

// A folder with files in it; every file holds its own name.
class Data {
 public:
  explicit Data(const std::vector<std::string>& files = {}) {
    for (const auto& file : files) write(file, file);
  }
  void write(const std::string& name, const std::string& bytes) {
    fs::create_directories((folder_.path() / name).parent_path());
    std::ofstream(folder_.path() / name, std::ios::binary) << bytes;
  }
  [[nodiscard]] std::string at(const std::string& name) const { return (folder_.path() / name).string(); }

 private:
  ScratchFolder folder_;
};

Listed list(const std::vector<Setting>& settings) { return built("source.video_list", settings).list(); }
std::vector<std::string> numbered(int count, const std::string& prefix = "v") {
  std::vector<std::string> names;
  for (int i = 0; i < count; ++i) names.push_back(prefix + std::to_string(i) + ".mp4");
  return names;
}
std::string failure(const std::vector<Setting>& settings, Code code) {
  try {
    static_cast<void>(list(settings));
  } catch (const Error& error) {
    CHECK(error.code() == code);
    return error.message();
  }
  return {};
}
std::string file_of(const Listed::Item& item) { return fs::path(item.streams.at("clip")).filename().string(); }

}  // namespace

TEST_CASE("path and label, with and without a first line, in four separators") {
  Data data({"a.mp4", "b c.mp4", "d,e.mp4"});
  for (const std::string text : {"a.mp4,x\nb c.mp4,y\n\"d,e.mp4\",x\n", "path,label\r\na.mp4,x\r\nb c.mp4,y\r\n\"d,e.mp4\",x\r\n", "\xEF\xBB\xBFLabel,PATH\nx,a.mp4\ny,b c.mp4\nx,\"d,e.mp4\"",
                                 "a.mp4\tx\nb c.mp4\ty\nd,e.mp4\tx\n", "a.mp4;x\nb c.mp4;y\n\"d,e.mp4\";x\n", "a.mp4 x\n\"b c.mp4\" y\n\"d,e.mp4\" x\n", "# list\n\na.mp4,x\n  b c.mp4 , y\n\"d,e.mp4\",x"}) {
    CAPTURE(text);
    data.write("list.txt", text);
    const auto listed = list({{"train", data.at("list.txt")}});
    CHECK(listed.classes == std::vector<std::string>{"x", "y"});
    REQUIRE(listed.items.size() == 3);
    CHECK(listed.rejects.empty());
    const std::vector<std::string> names = {"a.mp4", "b c.mp4", "d,e.mp4"};
    for (std::size_t i = 0; i < 3; ++i) {
      CHECK(listed.items[i].streams.at("clip") == data.at(names[i]));
      CHECK(listed.items[i].label == (i == 1 ? 1 : 0));
      CHECK(listed.items[i].split == abi::Split::train);
      CHECK(listed.items[i].unit == abi::Unit::whole);
      CHECK(fs::exists(listed.items[i].streams.at("clip")));
    }
  }
  data.write("list.csv", "path,label\na.mp4,x\n\"b\n\",y\na.mp4,z\n");
  CHECK(list({{"train", data.at("list.csv")}, {"duplicates", "keep"}}).items[1].origin == "list.csv:5");
}

TEST_CASE("labels: numbers by value, names by bytes, or the classes that are given") {
  Data data(numbered(6));
  const auto classes_of = [&](const std::string& text, std::vector<Setting> more = {}) {
    data.write("list.csv", text);
    more.emplace_back("train", data.at("list.csv"));
    return list(more);
  };
  auto listed = classes_of("v0.mp4,10\nv1.mp4,9\nv2.mp4,100\n");
  CHECK(listed.classes == std::vector<std::string>{"9", "10", "100"});
  CHECK(listed.items[0].label == 1);
  listed = classes_of("v0.mp4,10\nv1.mp4,9\nv2.mp4,b\nv3.mp4,B\nv4.mp4,\xC3\xA4\nv5.mp4,a\n");
  CHECK(listed.classes == std::vector<std::string>{"10", "9", "B", "a", "b", "\xC3\xA4"});
  const std::vector<std::string> given = {"run", "jump", "7"};
  listed = classes_of("v0.mp4,jump\nv1.mp4,1\nv2.mp4,7\nv3.mp4,3\nv4.mp4,-1\nv5.mp4,walk\n", {{"classes", given}});
  CHECK(listed.classes == given);
  REQUIRE(listed.items.size() == 3);
  CHECK(listed.items[0].label == 1);
  CHECK(listed.items[1].label == 1);
  CHECK(listed.items[2].label == 2);
  REQUIRE(listed.rejects.size() == 3);
  CHECK(listed.rejects[0].origin == "list.csv:4");
  CHECK(listed.rejects[0].why == "the label '3' is none of the classes: run, jump, 7");
  CHECK(listed.rejects[2].why == "the label 'walk' is none of the classes: run, jump, 7");
  listed = classes_of("v0.mp4\nv1.mp4\n");
  CHECK(listed.classes.empty());
  CHECK(listed.items[1].label == -1);
  listed = classes_of("v0.mp4,a\nv1.mp4\nv2.mp4,\n");
  CHECK(listed.items.size() == 1);
  REQUIRE(listed.rejects.size() == 2);
  CHECK(listed.rejects[0].origin == "list.csv:2");
  CHECK(listed.rejects[0].why == "no label, and others have one");
  CHECK(failure({{"train", data.at("list.csv")}, {"classes", std::vector<std::string>{"a", "b", "a"}}}, Code::configuration) == "classes names 'a' twice");
}

TEST_CASE("what cannot be used is rejected with its line, and the rest is listed") {
  Data data({"a.mp4", "ok.mp4"});
  data.write("empty.mp4", "");
  REQUIRE(mkfifo(data.at("pipe.mp4").c_str(), 0600) == 0);
  fs::create_directory(data.at("frames"));
  data.write("list.csv", "path,label,start,end\na.mp4,x,,\nmissing.mp4,x,,\nempty.mp4,x,,\npipe.mp4,x,,\n,x,,\nframes,y,,\nok.mp4,x,1,\nok.mp4,x,2,1\nok.mp4,x,a,b\nok.mp4,x,nan,3\nok.mp4,x,1,2,3\n"
                         "ok.mp4,x,0.5,1.5\n./ok.mp4,x,0.5,1.5\na.mp4,y,,\n");
  const auto listed = list({{"train", data.at("list.csv")}});
  std::map<std::string, std::string> why;
  for (const auto& reject : listed.rejects) why[reject.origin] = reject.why;
  CHECK(why["list.csv:3"] == data.at("missing.mp4") + ": No such file or directory");
  CHECK(why["list.csv:4"] == data.at("empty.mp4") + ": the file is empty");
  CHECK(why["list.csv:5"] == data.at("pipe.mp4") + ": it is a pipe, not a video");
  CHECK(why["list.csv:6"] == "no path");
  CHECK(why["list.csv:8"] == "a piece needs both start and end");
  CHECK(why["list.csv:9"] == "the piece from 2 to 1 is empty");
  CHECK(why["list.csv:10"] == "'a' is no number");
  CHECK(why["list.csv:11"] == "'nan' is no number");
  CHECK(why["list.csv:12"] == "it has 5 fields, and the first line 4");
  CHECK(why["list.csv:14"] == "listed already at list.csv:13");
  CHECK(why["list.csv:15"] == "listed already at list.csv:2, with another label");
  CHECK(why.size() == 11);
  REQUIRE(listed.items.size() == 3);
  CHECK(listed.items[0].origin == "list.csv:2");
  CHECK(listed.items[1].streams.at("clip") == data.at("frames"));
  CHECK(listed.items[2].start == 0.5);
  CHECK(listed.items[2].end == 1.5);
  CHECK(listed.items[2].unit == abi::Unit::seconds);

  data.write("list.txt", "a.mp4 x\nmy video.mp4 x\nok.mp4 x 1 2\na.mp4 1 2 3 4 5\n");
  const auto spaces = list({{"train", data.at("list.txt")}, {"unit", "frames"}});
  REQUIRE(spaces.items.size() == 2);
  CHECK(spaces.items[1].unit == abi::Unit::frames);
  CHECK(spaces.rejects.size() == 2);
  CHECK(spaces.rejects[0].why.starts_with("it has 3 fields where"));
}

// Catches: the same clip trained on and evaluated on, which makes every figure a lie.
TEST_CASE("a video in both lists is rejected from evaluation") {
  Data data({"a.mp4", "b.mp4"});
  data.write("train.csv", "a.mp4,x\n");
  data.write("val.csv", "b.mp4,x\na.mp4,x\n");
  auto listed = list({{"train", data.at("train.csv")}, {"val", data.at("val.csv")}});
  CHECK(listed.items.size() == 2);
  CHECK(listed.items[1].split == abi::Split::val);
  REQUIRE(listed.rejects.size() == 1);
  CHECK(listed.rejects[0].origin == "val.csv:2");
  CHECK(listed.rejects[0].why == "listed already at train.csv:1, for training");
  CHECK(list({{"train", data.at("train.csv")}, {"val", data.at("val.csv")}, {"duplicates", "keep"}}).items.size() == 3);
}

TEST_CASE("lists that give nothing, and settings that contradict each other") {
  Data data({"a.mp4"});
  data.write("none.csv", "# nothing\n\n");
  data.write("header.csv", "path,label\n");
  data.write("plain.csv", "a.mp4,x\n");
  data.write("half.csv", "path,label,start\na.mp4,x,1\n");
  CHECK(failure({{"path", data.at("none.csv")}}, Code::data) == "the list " + data.at("none.csv") + " is empty");
  CHECK(failure({{"path", data.at("header.csv")}}, Code::data) == "no video is listed in " + data.at("header.csv"));
  CHECK(failure({{"path", data.at("gone.csv")}}, Code::data) == "cannot read the list " + data.at("gone.csv") + ": No such file or directory");
  CHECK(failure({{"path", data.at("half.csv")}}, Code::configuration) == "the list " + data.at("half.csv") + " has only one of the columns 'start' and 'end'");
  CHECK(failure({{"path", data.at("plain.csv")}, {"group_by", "person"}}, Code::configuration) == "the list " + data.at("plain.csv") + " has no column 'path'");
  CHECK(failure({}, Code::configuration) == "neither path nor train names a list or a folder");
  CHECK(failure({{"path", "a"}, {"train", "b"}}, Code::configuration) == "path is given beside train or val");
  CHECK(failure({{"path", "a"}, {"split_by", "group"}}, Code::configuration) == "split_by = \"group\" needs group_by");
  CHECK(failure({{"path", "a"}, {"split_by", "time"}, {"group_by", "g"}}, Code::configuration) == "group_by is set, but split_by = \"time\"");
}

TEST_CASE("other columns become streams: paths that must exist, texts as they are") {
  Data data({"f0.mp4", "l0.mp4", "f1.mp4"});
  data.write("list.csv", "front,left,label,gloss\nf0.mp4,l0.mp4,x,\"good morning, you\"\nf1.mp4,l1.mp4,x,hello\n");
  const auto listed = list({{"train", data.at("list.csv")}, {"videos", std::vector<std::string>{"front", "left"}}, {"columns", std::vector<std::string>{"gloss"}}});
  REQUIRE(listed.items.size() == 1);
  CHECK(listed.items[0].streams == std::map<std::string, std::string>{{"front", data.at("f0.mp4")}, {"left", data.at("l0.mp4")}, {"gloss", "good morning, you"}});
  REQUIRE(listed.rejects.size() == 1);
  CHECK(listed.rejects[0].why == data.at("l1.mp4") + ": No such file or directory");
}

TEST_CASE("relative paths start at the list, or at root; absolute ones stay") {
  Data data({"lists/sub/a.mp4", "other/a.mp4"});
  data.write("lists/list.csv", "sub/a.mp4,x\n" + data.at("other/a.mp4") + ",x\n");
  auto listed = list({{"train", data.at("lists/list.csv")}});
  CHECK(listed.items[0].streams.at("clip") == data.at("lists/sub/a.mp4"));
  CHECK(listed.items[1].streams.at("clip") == data.at("other/a.mp4"));
  data.write("lists/list.csv", "a.mp4,x\n");
  for (const auto* end : {"", "/"}) CHECK(list({{"train", data.at("lists/list.csv")}, {"root", data.at("other") + end}}).items[0].streams.at("clip") == data.at("other/a.mp4"));
}

// Catches: a name that passes through an encoding on its way (Latin-1, broken UTF-8, line break) and no longer opens.
TEST_CASE("names of any bytes survive, in lists and folders") {
  const std::vector<std::string> names = {"caf\xE9.mp4", "\xE5\xB7\xA6 \xE5\x8F\xB3.mp4", "\xFF\xFE\x01.mp4", "line\nbreak.mp4", "quote\"s.mp4", " blank .mp4"};
  Data data;
  std::string text;
  for (const auto& name : names) {
    data.write("\xE9\xFF/" + name, name);
    std::string quoted;
    for (const char c : name) quoted += c == '"' ? "\"\"" : std::string(1, c);
    text += "\"\xE9\xFF/" + quoted + "\",x\n";
  }
  data.write("list.csv", text);
  const auto from_list = list({{"train", data.at("list.csv")}});
  CHECK(from_list.rejects.empty());
  REQUIRE(from_list.items.size() == names.size());
  for (std::size_t i = 0; i < names.size(); ++i) CHECK(file_of(from_list.items[i]) == names[i]);
  fs::remove(data.at("list.csv"));
  const auto from_folder = list({{"train", data.at("")}});
  CHECK(from_folder.classes == std::vector<std::string>{"\xE9\xFF"});
  std::set<std::string> found;
  for (const auto& item : from_folder.items) found.insert(file_of(item));
  CHECK(found == std::set<std::string>(names.begin(), names.end()));
}

TEST_CASE("a folder for each class: sorted by bytes, hidden and other files left out, folders of pictures are videos") {
  Data data({"b/2.mp4", "b/10.MP4", "b/.hidden.mp4", "b/notes.txt", "a/deep/er/x.avi", "a/frames/0001.jpg", "a/frames/0002.jpg", "B/y.mkv", "beside.mp4", ".git/z.mp4", "b/cover.jpg"});
  fs::create_directory(data.at("empty"));
  fs::create_directory_symlink(data.at("a"), data.at("a/deep/loop"));
  const Data elsewhere({"y.mkv"});
  fs::create_directory_symlink(elsewhere.at(""), data.at("linked"));
  const auto listed = list({{"train", data.at("")}});
  CHECK(listed.classes == std::vector<std::string>{"B", "a", "b", "empty", "linked"});
  std::vector<std::string> found;
  const auto base = data.at("");
  for (const auto& item : listed.items) {
    found.push_back(item.streams.at("clip").substr(base.size()));
    CHECK(found.back().starts_with(listed.classes[static_cast<std::size_t>(item.label)] + "/"));
  }
  CHECK(found == std::vector<std::string>{"B/y.mkv", "a/deep/er/x.avi", "a/frames", "b/10.MP4", "b/2.mp4", "linked/y.mkv"});
  std::map<std::string, std::string> why;
  for (const auto& reject : listed.rejects) why[fs::path(reject.origin).filename().string()] = reject.why;
  CHECK(why == std::map<std::string, std::string>{{"beside.mp4", "it lies beside the folders of the classes, so it has no class"}, {"empty", "no video in the folder of this class"}});
}

// Catches: a leak from train to val, or a second label, through another name of the same file; a walk that goes round in circles.
TEST_CASE("links: a file is one sample under all its names, circles are not followed, dead links are named") {
  Data data({"v/a/1.mp4", "v/b/2.mp4"});
  fs::create_symlink("../b/2.mp4", data.at("v/a/link.mp4"));
  fs::create_symlink("..", data.at("v/a/up"));
  fs::create_symlink("loop.mp4", data.at("v/a/loop.mp4"));
  const auto listed = list({{"path", data.at("v")}});
  CHECK(listed.items.size() == 2);
  CHECK(listed.rejects.size() == 2);
  data.write("train.csv", "v/a/1.mp4,x\n");
  data.write("val.csv", "v/b/2.mp4,x\nagain.mp4,x\n");
  fs::create_symlink("v/a/1.mp4", data.at("again.mp4"));
  const auto lists = list({{"train", data.at("train.csv")}, {"val", data.at("val.csv")}});
  CHECK(lists.items.size() == 2);
  CHECK(lists.rejects.size() == 1);
}

TEST_CASE("folders train/ and val/, and a folder without classes") {
  for (const std::string val : {"val", "valid", "validation", "test"}) {
    Data data({"train/a/1.mp4", "train/b/2.mp4", val + "/a/3.mp4"});
    const auto listed = list({{"path", data.at("")}});
    CHECK(listed.classes == std::vector<std::string>{"a", "b"});
    REQUIRE(listed.items.size() == 3);
    CHECK(listed.items[0].split == abi::Split::train);
    CHECK(listed.items[1].split == abi::Split::train);
    CHECK(listed.items[2].split == abi::Split::val);
  }
  Data both({"train/a/1.mp4", "val/a/1.mp4"});  // the same name in both is not the same file
  CHECK(list({{"path", both.at("")}}).items.size() == 2);
  Data flat({"x.mp4", "y.mp4"});
  const auto listed = list({{"train", flat.at("")}});
  CHECK(listed.classes.empty());
  CHECK(listed.items.size() == 2);
  CHECK(listed.items[0].label == -1);
}

TEST_CASE("split by file: stratified, by the names alone") {
  Data data;
  std::string text;
  for (int label = 0; label < 5; ++label)
    for (int i = 0; i < 20 + label * 10; ++i) {
      const auto name = "c" + std::to_string(label) + "/" + std::to_string(i) + ".mp4";
      data.write(name, name);
      text += name + "," + std::to_string(label) + "\n";
    }
  data.write("list.csv", text);
  const auto split_of = [&](std::vector<Setting> more) {
    std::map<std::string, abi::Split> out;
    for (const auto& item : list(more).items) out[fs::path(item.streams.at("clip")).parent_path().filename().string() + "/" + file_of(item)] = item.split;
    return out;
  };
  const auto split = split_of({{"path", data.at("list.csv")}, {"split", 0.7}});
  for (int label = 0; label < 5; ++label) {
    const auto in_val = std::count_if(split.begin(), split.end(), [&](const auto& one) { return one.first.starts_with("c" + std::to_string(label) + "/") && one.second == abi::Split::val; });
    CHECK(in_val == std::lround(0.3 * (20 + label * 10)));
  }
  // The same from the folder itself, from another place, from the list backwards, and without another class.
  CHECK(split_of({{"path", data.at("list.csv")}, {"split", 0.7}}) == split);
  std::vector<std::string> lines;
  for (std::size_t at = 0; at < text.size(); at = text.find('\n', at) + 1) lines.push_back(text.substr(at, text.find('\n', at) + 1 - at));
  std::string backwards, fewer;
  for (auto it = lines.rbegin(); it != lines.rend(); ++it) backwards += *it;
  for (const auto& line : lines)
    if (!line.starts_with("c3")) fewer += line;
  data.write("backwards.csv", backwards);
  data.write("fewer.csv", fewer);
  CHECK(split_of({{"path", data.at("backwards.csv")}, {"split", 0.7}}) == split);
  for (const auto& [name, side] : split_of({{"path", data.at("fewer.csv")}, {"split", 0.7}})) CHECK(split.at(name) == side);
  const auto other = split_of({{"path", data.at("list.csv")}, {"split", 0.7}, {"split_seed", 1}});
  CHECK(other != split);
  for (const auto* name : {"list.csv", "backwards.csv", "fewer.csv"}) fs::remove(data.at(name));
  CHECK(split_of({{"path", data.at("")}, {"split", 0.7}}) == split);
  CHECK(std::all_of(split.begin(), split.end(), [](const auto&) { return true; }));
  for (const auto& [name, side] : split_of({{"path", data.at("")}, {"split", 1}})) CHECK(side == abi::Split::train);
  for (const auto& [name, side] : split_of({{"path", data.at("")}, {"split", 0}})) CHECK(side == abi::Split::val);
}

// Catches: pieces of one file, or clips of one person, on both sides.
TEST_CASE("pieces of a file, and members of a group, stay together") {
  Data data(numbered(40));
  std::string pieces = "path,label,start,end,person\n";
  for (int i = 0; i < 40; ++i)
    for (int k = 0; k < 1 + i % 4; ++k) pieces += "v" + std::to_string(i) + ".mp4," + std::to_string((i + k) % 3) + "," + std::to_string(k) + "," + std::to_string(k + 1) + ",p" + std::to_string(i % 7) + "\n";
  data.write("list.csv", pieces);
  for (const bool grouped : {false, true}) {
    std::vector<Setting> settings = {{"path", data.at("list.csv")}};
    if (grouped) settings.emplace_back("group_by", "person");
    const auto listed = list(settings);
    CHECK(listed.items.size() == 100);
    std::map<std::string, std::set<int>> sides;
    int in_val = 0;
    for (const auto& item : listed.items) {
      sides[grouped ? item.group : file_of(item)].insert(item.split == abi::Split::val);
      in_val += item.split == abi::Split::val;
    }
    for (const auto& [unit, both] : sides) CHECK(both.size() == 1);
    CHECK(std::abs(in_val - 20) <= (grouped ? 8 : 2));
  }
  data.write("few.csv", "v0.mp4,a\nv1.mp4,b\nv2.mp4,c\n");  // rounding gives no class one: evaluation is not left empty
  const auto few = list({{"path", data.at("few.csv")}});
  CHECK(std::count_if(few.items.begin(), few.items.end(), [](const auto& item) { return item.split == abi::Split::val; }) == 1);
}

TEST_CASE("split by time: no moment of a file on both sides, the share of its length before the cut") {
  Data data(numbered(4));
  data.write("whole.csv", "v0.mp4,a\nv1.mp4,b\n");
  const auto whole = list({{"path", data.at("whole.csv")}, {"split_by", "time"}, {"split", 0.75}});
  REQUIRE(whole.items.size() == 4);
  for (std::size_t i = 0; i < 4; ++i) {
    CHECK(whole.items[i].unit == abi::Unit::fraction);
    CHECK(whole.items[i].split == (i % 2 ? abi::Split::val : abi::Split::train));
    CHECK(whole.items[i].start == (i % 2 ? 0.75 : 0));
    CHECK(whole.items[i].end == (i % 2 ? 1 : 0.75));
  }
  data.write("pieces.csv", "path,label,start,end\nv0.mp4,a,0,100\nv1.mp4,a,50,60\nv0.mp4,b,90,200\nv0.mp4,b,300,310\nv2.mp4,a,0,1\nv1.mp4,a,,\nv1.mp4,a,0,10\n");
  for (const std::string unit : {"frames", "seconds"}) {
    const auto listed = list({{"path", data.at("pieces.csv")}, {"split_by", "time"}, {"split", 0.8}, {"unit", unit}});
    REQUIRE(listed.rejects.size() == 2);
    CHECK(listed.rejects[0].origin == "pieces.csv:3");
    CHECK(listed.rejects[0].why == "its file is listed whole too: split_by = \"time\" cannot keep training and evaluation apart");
    std::map<std::string, std::pair<double, double>> bounds;  // latest end in training, earliest start in evaluation
    double train = 0, val = 0;
    for (const auto& item : listed.items) {
      if (file_of(item) != "v0.mp4" || item.start >= 300) continue;
      auto& [last, first] = bounds.try_emplace(file_of(item), 0, 1e9).first->second;
      if (item.split == abi::Split::train) last = std::max(last, item.end), train += item.end - item.start;
      else first = std::min(first, item.start), val += item.end - item.start;
    }
    CHECK(bounds.at("v0.mp4") == std::pair<double, double>{160, 160});
    CHECK(train == 100 + 70);
    CHECK(val == 40);
    const auto alone = std::count_if(listed.items.begin(), listed.items.end(), [](const auto& item) { return file_of(item) == "v2.mp4"; });
    CHECK(alone == (unit == "frames" ? 1 : 2));  // a piece of one frame goes to one side
  }
}

TEST_CASE("the order of the listing is that of the list, also when it is split") {
  Data data(numbered(30));
  std::string text;
  for (int i = 29; i >= 0; --i) text += "v" + std::to_string(i) + ".mp4," + std::to_string(i % 2) + "\n";
  data.write("list.csv", text);
  const auto listed = list({{"path", data.at("list.csv")}});
  for (std::size_t i = 0; i < 30; ++i) CHECK(file_of(listed.items[i]) == "v" + std::to_string(29 - i) + ".mp4");
}
