// Loading: what the file's table must be, what the fingerprint must be, what the messages say.
#include <doctest/doctest.h>

#include <dlfcn.h>
#include <sluice/error.hpp>

#include "framework/plugin/registry.hpp"
#include "tests/plugin/fixtures.hpp"

using namespace sluice;
using namespace sluice::testing;

namespace {

std::string failure(const std::string& fixture_name, const std::string& plugin, const std::string& fingerprint = {}) {
  Registry registry;
  registry.add_path(fixture(fixture_name));
  if (!fingerprint.empty()) registry.expect_fingerprint(fingerprint, "rebuild it: cmake --build build --target plugin_x");
  try {
    static_cast<void>(registry.load(plugin));
    return {};
  } catch (const Error& error) {
    CHECK(error.code() == Code::plugin);
    return error.what();
  }
}

const std::string right = "training=1;sdk=0.1.0;torch=2.13.0;cxx11abi=1;ndebug=1";

}  // namespace

TEST_CASE("a plugin is loaded once, with symbols of its own") {
  Registry registry;
  registry.add_path(fixture("two_in_one"));
  const abi::Descriptor& first = registry.load("augment.first");
  CHECK(&first == &registry.load("augment.first"));
  CHECK(&first != &registry.load("augment.second"));
  CHECK(first.kind == abi::Kind::stage);
  CHECK(registry.load("frames.third").frames != nullptr);
  // RTLD_LOCAL: the entry point of a plugin is not the process's.
  CHECK(::dlsym(RTLD_DEFAULT, abi::entry_point) == nullptr);
}

// Two plugins have functions of the same name; each must get its own.
TEST_CASE("plugins do not see each other") {
  Registry registry;
  registry.add_path(fixture("marker"));
  registry.add_path(fixture("every_field"));
  CHECK(std::string(registry.load("augment.marker").manifest->name) == "augment.marker");
  CHECK(std::string(registry.load("augment.every_field").manifest->name) == "augment.every_field");
}

// The dynamic linker takes libraries of one name for the same: the name must not be reused when a registry is gone.
TEST_CASE("a registry that is gone leaves its plugins, and the next gets its own") {
  for (const auto& [file, name] : {std::pair{"two_in_one", "augment.first"}, std::pair{"marker", "augment.marker"}, std::pair{"every_field", "augment.every_field"}, std::pair{"two_in_one", "augment.second"}}) {
    Registry registry;
    registry.add_path(fixture(file));
    CHECK(std::string(registry.load(name).manifest->name) == name);
  }
}

TEST_CASE("code that is not what the manifest says is refused") {
  const std::string why = failure("liar", "augment.liar");
  CHECK(why.find("its code and its manifest of augment.liar do not agree") != std::string::npos);
  CHECK(why.find(fixture("liar").string()) != std::string::npos);
}

TEST_CASE("what cannot be bound is found at loading, in the user's terms") {
  const std::string why = failure("missing_symbol", "augment.missing");
  CHECK(why.find("undefined symbol: _Z15nobody_has_thisv") != std::string::npos);
  CHECK(why.find(fixture("missing_symbol").string()) != std::string::npos);
  CHECK(why.find("/proc/") == std::string::npos);
  CHECK(why.find("ldd -r") != std::string::npos);
  CHECK(failure("hidden_entry", "augment.hidden").find("no entry point sluice_plugin_table") != std::string::npos);
}

TEST_CASE("a training plugin needs the same fingerprint, and is not loaded to find out") {
  const PluginFolder folder;
  const Mark mark(folder);
  CHECK(failure("needs_torch", "loss.trained").find("it needs LibTorch, which this command does not load") != std::string::npos);
  const auto other = [&](const std::string& replace, const std::string& by) {
    std::string changed = right;
    return failure("needs_torch", "loss.trained", changed.replace(changed.find(replace), replace.size(), by));
  };
  CHECK(other("torch=2.13.0", "torch=2.14.0").find("version of LibTorch: expected 2.14.0, found 2.13.0") != std::string::npos);
  CHECK(other("sdk=0.1.0", "sdk=0.2.0").find("version of sluice's SDK: expected 0.2.0, found 0.1.0") != std::string::npos);
  CHECK(other("ndebug=1", "ndebug=0").find("NDEBUG") != std::string::npos);
  CHECK(other("cxx11abi=1", "cxx11abi=0").find("expected 0, found 1") != std::string::npos);
  CHECK(other(";ndebug=1", "").find("expected (nothing), found 1") != std::string::npos);
  CHECK(other("ndebug=1", "ndebug=1;cuda=13").find("build setting 'cuda': expected 13, found (nothing)") != std::string::npos);
  CHECK(other("torch=2.13.0", "torch=2.14.0").find("hint: rebuild it: cmake") != std::string::npos);
  CHECK_FALSE(mark.left());
  CHECK(failure("needs_torch", "loss.trained", right).empty());
  CHECK(mark.left());
}

TEST_CASE("fingerprints are compared field by field") {
  CHECK(fingerprint_difference(right, right).empty());
  CHECK(fingerprint_difference("a=1;b=2", "b=2;a=1").empty());
  CHECK(fingerprint_difference("a=1;b=", "a=1;b=").empty());
  CHECK_FALSE(fingerprint_difference("a=1;b=", "a=1").empty());
  CHECK_FALSE(fingerprint_difference("a=1", "a=1;b=").empty());
  CHECK_FALSE(fingerprint_difference("a=1", "").empty());
}
