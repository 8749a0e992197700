// Asks the dynamic linker where it found this library.
#include "framework/plugin/installation.hpp"

#include <dlfcn.h>

#include <sluice/error.hpp>

namespace sluice {

namespace fs = std::filesystem;

const fs::path& library_folder() {
  static const fs::path folder = [] {
    Dl_info info{};
    std::error_code error;
    fs::path file;
    if (::dladdr(reinterpret_cast<const void*>(&library_folder), &info) != 0 && info.dli_fname) file = fs::canonical(info.dli_fname, error);
    if (file.empty() || error) throw Error(Code::plugin, "the folder of libsluice.so cannot be found", "is /proc mounted, and the library still there?");
    return file.parent_path();
  }();
  return folder;
}

fs::path cmake_package_folder() {
  for (const fs::path& folder : {library_folder() / "cmake" / "sluice", library_folder().parent_path()})
    if (fs::exists(folder / "sluiceConfig.cmake")) return folder;
  return {};
}

}  // namespace sluice
