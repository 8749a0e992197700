// Boost.DLL is known to this file alone.
#include "framework/plugin/library.hpp"

#include <cstring>
#include <deque>
#include <memory>
#include <mutex>
#include <string>

#include <boost/dll/shared_library.hpp>
#include <fmt/format.h>
#include <unistd.h>

#include <sluice/error.hpp>

namespace sluice {
namespace {

struct Kept {
  boost::dll::shared_library library;
  TrustedFile file;
};

// Immortal. Code of plugins runs until the very end of the process. The descriptor stays open because the dynamic linker takes two
// libraries of one name for the same: its number must not be given to another file.
boost::dll::shared_library& keep(boost::dll::shared_library library, TrustedFile file) {
  static auto& kept = *std::make_unique<std::deque<Kept>>().release();
  static std::mutex mutex;
  const std::lock_guard lock(mutex);
  return kept.emplace_back(Kept{std::move(library), std::move(file)}).library;
}

// The path of the open file itself: what is loaded is what was checked, whatever has been put in its place since. The number of the
// process, not "self", so that debuggers and symbolizers find it too.
std::string path_of(const TrustedFile& file) { return fmt::format("/proc/{}/fd/{}", ::getpid(), file.fd()); }

// What the dynamic linker said, in the user's terms.
std::string reason(std::string text, const std::string& loaded_as) {
  for (std::size_t at; (at = text.find(loaded_as)) != std::string::npos;) {
    std::size_t end = at + loaded_as.size();
    while (end < text.size() && (text[end] == ':' || text[end] == ' ')) ++end;
    text.erase(at, end - at);
  }
  return text;
}

bool agrees(const abi::Descriptor* descriptor, const abi::Manifest& manifest) {
  return std::memcmp(descriptor->manifest, &manifest, sizeof manifest) == 0;
}

void check_table(const abi::PluginTable* table, const std::vector<abi::Manifest>& manifests) {
  if (!table || table->size != sizeof(abi::PluginTable) || table->abi != abi::version)
    throw Error(Code::plugin, fmt::format("its table is not of version {} of the plugin interface", abi::version), "build it again with the SDK of this sluice");
  if (!table->begin || !table->end || static_cast<std::size_t>(table->end - table->begin) != manifests.size())
    throw Error(Code::plugin, fmt::format("it registers {} plugins, its manifests say {}", table->begin ? table->end - table->begin : 0, manifests.size()),
                "build it again; strip and linker scripts must keep the sections sluice_entries and .sluice.manifest");
  for (const abi::Manifest& manifest : manifests) {
    bool there = false;
    for (auto at = table->begin; at != table->end; ++at) {
      const abi::Descriptor* descriptor = *at;
      if (!descriptor || descriptor->size != sizeof(abi::Descriptor) || !descriptor->manifest)
        throw Error(Code::plugin, "a descriptor in its table is of another version of the plugin interface", "build it again with the SDK of this sluice");
      there = there || (agrees(descriptor, manifest) && static_cast<std::uint32_t>(descriptor->kind) == manifest.kind);
    }
    if (!there)
      throw Error(Code::plugin, fmt::format("its code and its manifest of {} do not agree", manifest.name), "the file was changed after it was linked: build it again");
  }
}

}  // namespace

const abi::PluginTable& load_library(TrustedFile file, const std::vector<abi::Manifest>& manifests) {
  namespace dll = boost::dll;
  std::string path = path_of(file);
  if (::access(path.c_str(), F_OK) != 0) {  // no /proc: by name, if it still names the same file
    path = file.path().string();
    if (!TrustedFile(file.path()).same_as(file)) throw Error(Code::plugin, "it was changed while it was being loaded", "start again");
  }
  const abi::PluginTable* table = nullptr;
  try {
    auto& library = keep(dll::shared_library(path, dll::load_mode::rtld_now | dll::load_mode::rtld_local), std::move(file));
    if (!library.has(abi::entry_point))
      throw Error(Code::plugin, fmt::format("it has no entry point {}", abi::entry_point), "link it without a version script that hides it");
    table = library.get<const abi::PluginTable*()>(abi::entry_point)();
  } catch (const boost::system::system_error& error) {
    throw Error(Code::plugin, fmt::format("it cannot be loaded: {}", reason(error.what(), path)),
                "ldd -r shows what is missing: a library that is not installed, or a symbol of another version");
  }
  check_table(table, manifests);
  return *table;
}

}  // namespace sluice
