// What everybody waits for: help, lists and errors come at once, for neither LibTorch nor OpenCV is loaded.
#include <doctest/doctest.h>

#include "command.hpp"

using namespace sluice::testing;
namespace fs = std::filesystem;

namespace {

// Libraries that a command mapped, as the dynamic linker reports them.
std::string libraries_of(const Desk& sluice, const std::string& command) {
  const auto log = sluice.folder() / "libraries";
  static_cast<void>(std::system(("cd '" + sluice.folder().string() + "' && LD_DEBUG=files LD_DEBUG_OUTPUT='" + log.string() + "' '" SLUICE_BINARY_DIR "/bin/sluice' " + command + " >/dev/null 2>&1").c_str()));
  std::string text;
  for (const auto& entry : fs::directory_iterator(sluice.folder()))
    if (entry.path().filename().string().starts_with("libraries.")) {
      text += text_of_file(entry.path());
      fs::remove(entry.path());
    }
  return text;
}

const std::string wrong_pipeline = data_pipeline + "[optimzer]\nplugin = \"optimizer.sgd\"\n";

}  // namespace

// Catches a library that is linked again, a plugin that is loaded to be listed, a registry that reads whole files. The issue's
// bound; the best of seven, for other programs share the machine.
TEST_CASE("help, plugins and configuration errors take at most 100 ms") {
  const Desk sluice;
  sluice.write("wrong.toml", wrong_pipeline);
  const std::vector<std::vector<std::string>> commands{{}, {"--help"}, {"plugins"}, {"inspect", "backbone.r3d"}, {"check", "wrong.toml"}, {"train", "wrong.toml"}};
  for (const auto& arguments : commands) {
    double best = 10;
    for (int i = 0; i < 7; ++i) best = std::min(best, sluice(arguments).seconds);
    INFO((arguments.empty() ? "sluice" : arguments[0]) << ": " << best << " s");
    CHECK(best <= 0.1);
  }
}

// Catches what a time on a fast machine would hide. The last case shows that the probe sees a library that is loaded.
TEST_CASE("none of them loads LibTorch, OpenCV, or a plugin") {
  const Desk sluice;
  sluice.write("wrong.toml", wrong_pipeline);
  sluice.write("a.toml", data_pipeline);
  for (const auto* command : {"", "--help", "plugins", "inspect loss.cross_entropy", "check wrong.toml", "train wrong.toml", "eval wrong.toml"}) {
    const std::string libraries = libraries_of(sluice, command);
    INFO(command);
    CHECK(has(libraries, "libsluice.so"));
    for (const auto* name : {"libtorch", "libc10", "libopencv", "libav", "libsluice_train", "file=/proc/"}) {
      INFO(name);
      CHECK(!has(libraries, name));
    }
  }
  CHECK(has(libraries_of(sluice, "inspect a.toml"), "file=/proc/"));  // a plugin is loaded through the file that was checked
  CHECK(!has(libraries_of(sluice, "inspect a.toml"), "libtorch"));
  CHECK(!has(libraries_of(sluice, "data bench a.toml"), "libtorch"));
}
