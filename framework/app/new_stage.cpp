// The source has every part that a stage is made of; what it does is one line, to be replaced.
#include "framework/app/new_stage.hpp"

#include <filesystem>
#include <regex>

#include <fmt/format.h>

#include <sluice/error.hpp>

#include "framework/app/shell.hpp"
#include "framework/base/strings.hpp"
#include "framework/plugin/installation.hpp"
#include "framework/plugin/registry.hpp"
#include "framework/state/files.hpp"

namespace sluice::app {
namespace {

namespace fs = std::filesystem;

// {0}: name of the plugin, {1}: of the struct
constexpr std::string_view source = R"(// {0}: inverts the colours of a clip with probability p.
#include <sluice/stage.hpp>

struct {1} {{
  double p = 0.5;
  static constexpr std::string_view help = "Inverts the colours";
  static constexpr auto fields = sluice::fields(
      sluice::field(&{1}::p, "p", "chance that a clip is inverted", sluice::range(0.0, 1.0)));

  sluice::Clip operator()(sluice::Clip clip, sluice::Rng& rng) const {{
    if (rng.uniform() < p)
      for (auto& value : clip.array().values<std::uint8_t>()) value = static_cast<std::uint8_t>(255 - value);
    return clip;
  }}
}};

SLUICE_STAGE({1}, "{0}");
)";

constexpr std::string_view cmake = R"(cmake_minimum_required(VERSION 3.25)
project({1} CXX)
find_package(sluice REQUIRED)
sluice_plugin({0} SOURCES {2})
)";

// augment.motion_blur -> MotionBlur
std::string struct_name(const std::string& name) {
  std::string out;
  bool upper = true;
  for (const char c : name.substr(name.find('.') + 1)) {
    if (c == '_') upper = true;
    else out += upper && c >= 'a' && c <= 'z' ? static_cast<char>(c - 32) : c, upper = false;
  }
  return out;
}

void check_name(const std::string& name) {
  static const std::regex form("[a-z][a-z0-9]*\\.[a-z][a-z0-9]*(_[a-z0-9]+)*");
  if (name.size() > 60 || !std::regex_match(name, form))
    throw Error(Code::configuration, fmt::format("{} is no name of a stage", in_quotes(name)), "a kind, a point and a name in small letters, e.g. augment.blur");
  Registry registry;
  registry.add_builtin();
  for (const auto* kind : {"source.", "frames.", "decode.", "model.", "backbone.", "head.", "loss.", "optimizer.", "schedule.", "metric."})
    if (name.starts_with(kind))
      throw Error(Code::configuration, fmt::format("{} would be another kind of plugin than a stage", in_quotes(name)),
                  "docs/plugins.md has the header of each kind, examples/backbone a network; a stage is called e.g. augment.blur");
  if (registry.manifest(name)) throw Error(Code::configuration, fmt::format("there is a plugin {} already", in_quotes(name)), "choose another name: pipelines find a plugin by it");
}

}  // namespace

void write_new_stage(const NewStage& request) {
  check_name(request.name);
  const fs::path folder = request.out.empty() ? fs::path(request.name) : fs::path(request.out);
  if (fs::exists(fs::symlink_status(folder)) && !(fs::is_directory(folder) && fs::is_empty(folder)))
    throw Error(Code::configuration, "it exists already and is not an empty folder", "choose another: --out FOLDER", folder.string());
  const std::string type = struct_name(request.name), file = request.name.substr(request.name.find('.') + 1) + ".cpp";
  make_folders(system_disk(), folder);
  write_file(system_disk(), folder / file, fmt::format(source, request.name, type));
  write_file(system_disk(), folder / "CMakeLists.txt", fmt::format(cmake, request.name, type, file));

  const fs::path build = folder / "build", package = cmake_package_folder();
  fmt::print("wrote {} and CMakeLists.txt in {}\nNext, build it and look at it:\n", file, folder.string());
  fmt::print("  cmake -S {} -B {}{}\n", shell_word(folder.string()), shell_word(build.string()), package.empty() ? "" : " -Dsluice_DIR=" + shell_word(package.string()));
  fmt::print("  cmake --build {}\n  sluice inspect {} --path {}\n", shell_word(build.string()), request.name, shell_word(build.string()));
  fmt::print("Use it in a pipeline:\n  [plugins]\n  path = [\"{}\"]\n\n  [[stage]]\n  plugin = \"{}\"\n", fs::absolute(build).lexically_normal().string(), request.name);
}

}  // namespace sluice::app
