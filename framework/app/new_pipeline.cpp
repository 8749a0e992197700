// Survey, choice, file: what was found is printed, what was chosen stands in the file.
#include "framework/app/new_pipeline.hpp"

#include <algorithm>

#include <fmt/format.h>

#include <sluice/error.hpp>

#include "framework/app/printing.hpp"
#include "framework/app/recommend.hpp"
#include "framework/app/shell.hpp"
#include "framework/base/strings.hpp"
#include "framework/config/toml.hpp"
#include "framework/state/files.hpp"

namespace sluice::app {
namespace {

namespace fs = std::filesystem;

// Its own name stays as it was typed, also where it is a link.
fs::path absolute(const std::string& data) {
  std::error_code error;
  const fs::path real = fs::canonical(data, error);
  if (error) throw Error(Code::io, fmt::format("cannot open: {}", error.message()), "--data names a folder of videos, or a list of them", data);
  fs::path typed = data;
  if (!typed.has_filename()) typed = typed.parent_path();  // videos/
  const auto name = typed.filename();
  return name.empty() || name == "." || name == ".." ? real : fs::canonical(fs::absolute(typed).parent_path()) / name;
}

bool has_folder(const fs::path& data, std::initializer_list<const char*> names) {
  return std::any_of(names.begin(), names.end(), [&](const char* name) { return fs::is_directory(data / name); });
}

fs::path out_file(const NewPipeline& request, const fs::path& data) {
  fs::path out = request.out;
  if (out.empty()) out = (fs::is_directory(data) ? data.filename() : data.stem()).string() + ".toml";
  if (out.extension() != ".toml") throw Error(Code::configuration, fmt::format("{} is no name of a pipeline", in_quotes(out.string())), "its name ends in .toml");
  if (fs::is_directory(out)) throw Error(Code::configuration, "a folder has this name", "choose another: --out FILE.toml", out.string());
  if (!request.force && fs::symlink_status(out).type() != fs::file_type::not_found)
    throw Error(Code::configuration, "the file exists already", "--force replaces it; --out writes another", out.string());
  return out;
}

// From the file's folder where the data lies near it, so that both can be moved together.
std::string path_to_write(const fs::path& data, const fs::path& out) {
  const fs::path folder = fs::weakly_canonical(fs::absolute(out)).parent_path();
  const std::string near = data.lexically_relative(folder).string();
  const std::string path = near.empty() || near.starts_with("../../..") ? data.string() : near;
  if (first_bad_utf8(path)) throw Error(Code::configuration, fmt::format("a pipeline is UTF-8, and the path {} is not", in_quotes(path)), "rename the folder, or make a link to it with another name");
  return path;
}

std::string number_text(const Spread& spread, const char* unit, const char* format) {
  const auto text = [&](double value) { return fmt::format(fmt::runtime(format), value); };
  if (spread.min == spread.max) return fmt::format("{}{}", text(spread.min), unit);
  return fmt::format("{} to {}{}, median {}", text(spread.min), text(spread.max), unit, text(spread.median));
}

void print(const Survey& survey) {
  const int width = terminal_width();
  std::vector<std::vector<std::string>> classes{{"class", "train", "val"}};
  constexpr std::size_t most = 30;
  for (std::size_t i = 0; i < std::min(most, survey.classes.size()); ++i) {
    const auto& one = survey.classes[i];
    classes.push_back({shown_name(one.name), with_commas(static_cast<std::uint64_t>(one.train)), with_commas(static_cast<std::uint64_t>(one.val))});
  }
  if (survey.classes.size() > most) classes.push_back({fmt::format("... {} more", survey.classes.size() - most), "", ""});
  classes.push_back({survey.classes.size() == 1 ? "1 class" : fmt::format("{} classes", survey.classes.size()), with_commas(static_cast<std::uint64_t>(survey.train)),
                     with_commas(static_cast<std::uint64_t>(survey.val))});
  fmt::print("{}\n", columns(classes, 2, width));
  std::vector<std::vector<std::string>> facts{{"length", number_text(survey.frames, " frames", "{:.0f}")}};
  if (survey.rate.max > 0) facts.back()[1] += "; " + number_text(survey.seconds, " s", "{:.2f}"), facts.push_back({"frame rate", number_text(survey.rate, " frames/s", "{:.4g}")});
  facts.push_back({"width", number_text(survey.width, " pixels", "{:.0f}")});
  facts.push_back({"height", number_text(survey.height, " pixels", "{:.0f}")});
  fmt::print("{}", columns(facts, 2, width));
  if (survey.failed.empty()) return;
  fmt::print("\n{} cannot be used:\n", counted(survey.failed.size(), "video"));
  constexpr std::size_t most_failed = 50;
  for (std::size_t i = 0; i < std::min(most_failed, survey.failed.size()); ++i) fmt::print("  {}\n", cause_text(survey.failed[i]));
  if (survey.failed.size() > most_failed) fmt::print("  ... and {} more\n", with_commas(survey.failed.size() - most_failed));
}

void warn(const Survey& survey) {
  if (survey.classes.size() == 1) fmt::print("\nwarning: there is one class, so there is nothing to tell apart\n");
  for (const auto& one : survey.classes)
    if (one.train == 0) fmt::print("\nwarning: nothing to train on in the class {}\n", in_quotes(one.name));
  if (survey.val == 0) fmt::print("\nwarning: nothing is left to evaluate on: add videos, or lower --split\n");
}

PluginConfig source_of(const fs::path& data, const NewPipeline& request, bool splits) {
  PluginConfig source;
  source.plugin = "source.video_list";
  const auto set = [&](const char* key, auto value) {
    Member& member = source.settings.emplace_back();
    member.key = key;
    member.value.data = std::move(value);
  };
  set("path", data.string());
  if (splits) set("split", request.split), set("split_seed", request.split_seed);
  return source;
}

}  // namespace

void write_new_pipeline(const NewPipeline& request) {
  if (!(request.split > 0 && request.split <= 1)) throw Error(Code::configuration, fmt::format("--split {} is no share to train on", request.split), "write e.g. --split 0.8");
  fs::path data = absolute(request.data);
  const fs::path out = out_file(request, data);
  const bool trains = fs::is_directory(data) && has_folder(data, {"train"});
  const bool splits = !trains || !has_folder(data, {"val", "valid", "validation", "test"});
  if (trains && splits) data /= "train";  // with no val beside it, a part of train is kept for it
  const std::string path = path_to_write(data, out);

  Registry registry;
  registry.add_builtin();
  const Survey found = survey(registry, source_of(data, request, splits), request.workers);
  print(found);
  if (found.train == 0) throw Error(Code::data, "nothing is left to train on: all that can be used is for evaluation", "add videos, or raise --split");
  warn(found);

  std::string lines = fmt::format("path = {}\n", toml_text(Value{path, {}}));
  if (splits)
    lines += fmt::format("{:<23} # share of each class to train on; the rest is for evaluation\n{:<23} # another number gives another split\n",
                         fmt::format("split = {:g}", request.split), fmt::format("split_seed = {}", request.split_seed));
  if (found.pieces) lines += "# unit = \"seconds\"       # of start and end in the list; or \"frames\"\n";
  Recommendation choice = recommend(found);
  choice.workers = request.workers;
  write_file(system_disk(), out, pipeline_text(found, choice, out.stem().string(), lines));
  const std::string word = shell_word(out.string());
  fmt::print("\nwrote {}\nNext:\n  sluice check {}\n  sluice train {}\n", out.string(), word, word);
}

}  // namespace sluice::app
