// The ELF64 reader: header, section headers, section names, one section.
#include "framework/plugin/elf.hpp"

#include <cerrno>
#include <cmath>
#include <cstring>

#include <elf.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <sluice/error.hpp>

#include "framework/base/strings.hpp"

namespace sluice {
namespace {

constexpr std::uint64_t most_sections = 65536;
constexpr std::uint64_t longest_names = 1 << 20;
constexpr std::uint64_t most_manifests = 256;

[[noreturn]] void refuse(std::string what, std::string hint = {}) { throw Error(Code::plugin, std::move(what), std::move(hint)); }

void read_at(const ByteSource& file, std::uint64_t offset, std::span<std::byte> to, std::string_view what) {
  if (offset > file.size() || to.size() > file.size() - offset)
    refuse(fmt::format("the file ends within its {}", what), "it is cut: build or copy it again");
  if (!file.read(offset, to)) refuse(fmt::format("its {} cannot be read", what));
}

template <class T> T read_as(const ByteSource& file, std::uint64_t offset, std::string_view what) {
  T value;
  read_at(file, offset, std::as_writable_bytes(std::span(&value, 1)), what);
  return value;
}

Elf64_Ehdr read_header(const ByteSource& file) {
  if (file.size() < SELFMAG) refuse("it is too short to be a shared library");
  char magic[SELFMAG];
  read_at(file, 0, std::as_writable_bytes(std::span(magic)), "first bytes");
  if (std::memcmp(magic, ELFMAG, SELFMAG) != 0) refuse("it is no shared library (no ELF file)");
  const auto header = read_as<Elf64_Ehdr>(file, 0, "ELF header");
  if (header.e_ident[EI_CLASS] != ELFCLASS64) refuse("it is a 32-bit library", "build it for this machine");
  if (header.e_ident[EI_DATA] != ELFDATA2LSB) refuse("it is a library for another byte order", "build it for this machine");
#if defined(__x86_64__)
  constexpr int machine = EM_X86_64;
#elif defined(__aarch64__)
  constexpr int machine = EM_AARCH64;
#else
#error "name the ELF machine of this processor"
#endif
  if (header.e_machine != machine) refuse("it is a library for another processor", "build it for this machine");
  if (header.e_type != ET_DYN) refuse("it is an ELF file, but no shared library", "link it with -shared");
  if (header.e_shoff == 0 || header.e_shentsize != sizeof(Elf64_Shdr)) refuse("its section table is missing", "strip keeps it; sstrip and packers do not");
  return header;
}

void check_text(std::string& problem, std::string_view what, const char* text, std::size_t size) {
  if (!problem.empty()) return;
  const auto* end = static_cast<const char*>(std::memchr(text, 0, size));
  if (!end) {
    problem = fmt::format("its {} has no end", what);
    return;
  }
  const std::string_view value(text, static_cast<std::size_t>(end - text));
  if (!is_printable(value)) problem = fmt::format("its {} holds bytes that are not printable", what);  // it goes to terminals
  for (std::size_t i = static_cast<std::size_t>(end - text); i < size && problem.empty(); ++i)
    if (text[i] != 0) problem = fmt::format("behind its {} there is more than zeros", what);
}

bool is_name(std::string_view name) {
  if (name.empty() || name.front() == '.' || name.back() == '.' || name.find("..") != std::string_view::npos) return false;
  return name.find_first_not_of("abcdefghijklmnopqrstuvwxyz0123456789_.") == std::string_view::npos;
}

bool is_key(std::string_view name) {
  return !name.empty() && name.find_first_not_of("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_") == std::string_view::npos;
}

}  // namespace

bool MemoryBytes::read(std::uint64_t offset, std::span<std::byte> to) const {
  if (!to.empty()) std::memcpy(to.data(), bytes_.data() + offset, to.size());
  return true;
}

FileBytes::FileBytes(int fd) : fd_(fd), size_(0) {
  struct stat status {};
  if (::fstat(fd, &status) == 0 && status.st_size > 0) size_ = static_cast<std::uint64_t>(status.st_size);
}

bool FileBytes::read(std::uint64_t offset, std::span<std::byte> to) const {
  while (!to.empty()) {
    const ssize_t n = ::pread(fd_, to.data(), to.size(), static_cast<off_t>(offset));
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return false;
    to = to.subspan(static_cast<std::size_t>(n));
    offset += static_cast<std::uint64_t>(n);
  }
  return true;
}

std::string manifest_problem(const abi::Manifest& manifest) {
  if (std::memcmp(manifest.magic, manifest_magic, sizeof manifest_magic) != 0) return "its manifest does not begin with SLUICEM1";
  if (manifest.abi != abi::version)
    return fmt::format("it was built for version {} of the plugin interface, this sluice has {}", manifest.abi, abi::version);
  if (manifest.bytes != sizeof(abi::Manifest)) return fmt::format("its manifest has {} bytes, not {}", manifest.bytes, sizeof(abi::Manifest));
  if (manifest.kind < static_cast<std::uint32_t>(abi::Kind::source) || manifest.kind > static_cast<std::uint32_t>(abi::Kind::metric))
    return fmt::format("its kind, {}, is unknown", manifest.kind);
  if (manifest.field_count > abi::max_fields) return fmt::format("it declares {} fields, more than {}", manifest.field_count, abi::max_fields);

  std::string problem;
  check_text(problem, "name", manifest.name, sizeof manifest.name);
  check_text(problem, "help", manifest.help, sizeof manifest.help);
  check_text(problem, "SDK version", manifest.sdk, sizeof manifest.sdk);
  check_text(problem, "fingerprint", manifest.fingerprint, sizeof manifest.fingerprint);
  check_text(problem, "list of streams read", manifest.reads, sizeof manifest.reads);
  check_text(problem, "list of streams written", manifest.writes, sizeof manifest.writes);
  if (problem.empty() && !is_name(manifest.name)) problem = fmt::format("{} is no name of a plugin (a-z, 0-9, _ and single dots)", in_quotes(manifest.name));
  for (std::uint32_t i = 0; i < manifest.field_count && problem.empty(); ++i) {
    const abi::FieldRecord& field = manifest.fields[i];
    const std::string which = fmt::format("field {}'s ", i);
    check_text(problem, which + "name", field.name, sizeof field.name);
    check_text(problem, which + "help", field.help, sizeof field.help);
    check_text(problem, which + "default", field.text, sizeof field.text);
    check_text(problem, which + "choices", field.choices, sizeof field.choices);
    if (!problem.empty()) break;
    if (!is_key(field.name)) problem = fmt::format("{} is no name of a field", in_quotes(field.name));
    if (field.type < static_cast<std::uint32_t>(FieldType::boolean) || field.type > static_cast<std::uint32_t>(FieldType::part))
      problem = fmt::format("the type of its field {} is unknown", in_quotes(field.name));
    if (!std::isfinite(field.min) || !std::isfinite(field.max)) problem = fmt::format("the range of its field {} is no number", in_quotes(field.name));
    for (std::uint32_t k = 0; k < i && problem.empty(); ++k)
      if (std::strcmp(manifest.fields[k].name, field.name) == 0) problem = fmt::format("it declares the field {} twice", in_quotes(field.name));
  }
  return problem;
}

std::vector<abi::Manifest> read_manifests(const ByteSource& file) {
  const Elf64_Ehdr header = read_header(file);
  // With 65,280 sections or more the true numbers stand in the first section header.
  const auto first = read_as<Elf64_Shdr>(file, header.e_shoff, "section table");
  const std::uint64_t count = header.e_shnum != 0 ? header.e_shnum : first.sh_size;
  const std::uint64_t names_at = header.e_shstrndx != SHN_XINDEX ? header.e_shstrndx : first.sh_link;
  if (count == 0 || count > most_sections || names_at >= count) refuse("its section table makes no sense", "it is damaged: build it again");

  std::vector<Elf64_Shdr> sections(count);
  read_at(file, header.e_shoff, std::as_writable_bytes(std::span(sections)), "section table");
  const Elf64_Shdr& names_section = sections[names_at];
  if (names_section.sh_type != SHT_STRTAB || names_section.sh_size == 0 || names_section.sh_size > longest_names)
    refuse("the names of its sections make no sense", "it is damaged: build it again");
  std::string names(names_section.sh_size, '\0');
  read_at(file, names_section.sh_offset, std::as_writable_bytes(std::span(names)), "section names");
  if (names.back() != '\0') refuse("the names of its sections have no end", "it is damaged: build it again");

  const Elf64_Shdr* found = nullptr;
  for (const Elf64_Shdr& section : sections) {
    if (section.sh_name >= names.size() || std::strcmp(names.c_str() + section.sh_name, manifest_section) != 0) continue;
    if (found) refuse("it has two manifest sections", "link it anew, without a linker script that splits them");
    found = &section;
  }
  if (!found) refuse("it is no plugin of sluice: it has no manifest", "a plugin ends in a line like SLUICE_STAGE(HFlip, \"augment.hflip\")");
  if (found->sh_type != SHT_PROGBITS || (found->sh_flags & SHF_COMPRESSED) != 0) refuse("its manifest section has no plain bytes");
  if (found->sh_size == 0 || found->sh_size % sizeof(abi::Manifest) != 0) {
    std::string what = fmt::format("its manifest section has {} bytes, no multiple of {}", found->sh_size, sizeof(abi::Manifest));
    // Another interface version has records of another size: say so, if the first record can still be told.
    struct Head { char magic[8]; std::uint32_t bytes, abi; };
    if (found->sh_size >= sizeof(Head)) {
      const auto head = read_as<Head>(file, found->sh_offset, "manifest");
      if (std::memcmp(head.magic, manifest_magic, sizeof manifest_magic) == 0 && head.abi != abi::version)
        what = fmt::format("it was built for version {} of the plugin interface, this sluice has {}", head.abi, abi::version);
    }
    refuse(what, "build it again with the SDK of this sluice");
  }
  const std::uint64_t manifests = found->sh_size / sizeof(abi::Manifest);
  if (manifests > most_manifests) refuse(fmt::format("it holds {} plugins, more than {}", manifests, most_manifests));

  std::vector<abi::Manifest> out(manifests);
  read_at(file, found->sh_offset, std::as_writable_bytes(std::span(out)), "manifest");
  for (std::size_t i = 0; i < out.size(); ++i) {
    if (std::string problem = manifest_problem(out[i]); !problem.empty()) refuse(std::move(problem), "build it again with the SDK of this sluice");
    for (std::size_t k = 0; k < i; ++k)
      if (std::strcmp(out[k].name, out[i].name) == 0) refuse(fmt::format("it holds the plugin {} twice", out[i].name));
  }
  return out;
}

}  // namespace sluice
