// The manifest reader against real plugins, and against every way of cutting and damaging them.
#include "framework/plugin/elf.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cstring>

#include <elf.h>
#include <sluice/error.hpp>

#include "tests/plugin/fixtures.hpp"

using namespace sluice;
using namespace sluice::testing;

namespace {

std::vector<abi::Manifest> read(const std::vector<char>& bytes) { return read_manifests(MemoryBytes(std::as_bytes(std::span(bytes)))); }

// The reason for which the file is refused; empty when it is not.
std::string refusal(const std::vector<char>& bytes) {
  try {
    static_cast<void>(read(bytes));
    return {};
  } catch (const Error& error) {
    CHECK(error.code() == Code::plugin);
    return error.message();
  }
}

struct Section {
  std::size_t header, offset, size;
};
Section section(const std::vector<char>& bytes, const std::string& name) {
  Elf64_Ehdr header;
  std::memcpy(&header, bytes.data(), sizeof header);
  const auto at = [&](std::size_t i) {
    Elf64_Shdr s;
    std::memcpy(&s, bytes.data() + header.e_shoff + i * sizeof s, sizeof s);
    return s;
  };
  const Elf64_Shdr names = at(header.e_shstrndx);
  for (std::size_t i = 0; i < header.e_shnum; ++i)
    if (name == bytes.data() + names.sh_offset + at(i).sh_name) return {header.e_shoff + i * sizeof(Elf64_Shdr), at(i).sh_offset, at(i).sh_size};
  return {};
}

template <class T> void put(std::vector<char>& bytes, std::size_t at, const T& value) { std::memcpy(bytes.data() + at, &value, sizeof value); }

}  // namespace

TEST_CASE("manifests are read as they were written") {
  const auto manifests = read(bytes_of_file(fixture("every_field")));
  REQUIRE(manifests.size() == 1);
  const abi::Manifest& manifest = manifests[0];
  CHECK(std::string(manifest.name) == "augment.every_field");
  CHECK(std::string(manifest.help) == "Has a field of every type.");
  CHECK(manifest.kind == static_cast<std::uint32_t>(abi::Kind::stage));
  CHECK((manifest.flags & abi::manifest_parallel) != 0);
  REQUIRE(manifest.field_count == 12);
  CHECK(std::string(manifest.fields[1].name) == "whole");
  CHECK(manifest.fields[1].integer == 3);
  CHECK(manifest.fields[1].max == 10);
  CHECK(manifest.fields[3].real == 0.5);
  CHECK(std::string(manifest.fields[6].text) == "[1, 2]");
  CHECK(std::string(manifest.fields[8].text) == "[\"a\"]");
  CHECK((manifest.fields[5].flags & abi::field_path) != 0);
  CHECK((manifest.fields[10].flags & abi::field_optional) != 0);

  const auto three = read(bytes_of_file(fixture("two_in_one")));
  REQUIRE(three.size() == 3);
  const auto second = std::find_if(three.begin(), three.end(), [](const auto& one) { return std::string(one.name) == "augment.second"; });
  REQUIRE(second != three.end());
  CHECK(std::string(second->reads) == "*,label");
  CHECK((second->flags & abi::manifest_ordered) != 0);
}

TEST_CASE("what is no plugin says what it is") {
  CHECK(refusal({}).find("too short") != std::string::npos);
  CHECK(refusal({'a', 'b'}).find("too short") != std::string::npos);
  CHECK(refusal(std::vector<char>(1000, 'x')).find("no ELF file") != std::string::npos);
  CHECK(refusal(bytes_of_file(fixture("no_plugin"))).find("it has no manifest") != std::string::npos);
  CHECK(refusal(bytes_of_file("/proc/self/exe")).find("it has no manifest") != std::string::npos);
  auto bytes = bytes_of_file(fixture("marker"));
  auto changed = bytes;
  changed[EI_CLASS] = ELFCLASS32;
  CHECK(refusal(changed).find("32-bit") != std::string::npos);
  changed = bytes;
  changed[EI_DATA] = ELFDATA2MSB;
  CHECK(refusal(changed).find("byte order") != std::string::npos);
  changed = bytes;
  put(changed, offsetof(Elf64_Ehdr, e_machine), std::uint16_t{EM_S390});
  CHECK(refusal(changed).find("another processor") != std::string::npos);
  changed = bytes;
  put(changed, offsetof(Elf64_Ehdr, e_type), std::uint16_t{ET_REL});
  CHECK(refusal(changed).find("no shared library") != std::string::npos);
  changed = bytes;
  put(changed, offsetof(Elf64_Ehdr, e_shoff), std::uint64_t{0});
  CHECK(refusal(changed).find("section table is missing") != std::string::npos);
}

// Catches offsets and sizes that are added before they are compared: their sum wraps round.
TEST_CASE("sizes at the end of 64 bits do not wrap") {
  const auto bytes = bytes_of_file(fixture("marker"));
  const Section manifest = section(bytes, ".sluice.manifest");
  for (const std::uint64_t huge : {~std::uint64_t{0}, ~std::uint64_t{0} - 15615, std::uint64_t{1} << 63, static_cast<std::uint64_t>(bytes.size())}) {
    auto changed = bytes;
    put(changed, offsetof(Elf64_Ehdr, e_shoff), huge);
    CHECK_FALSE(refusal(changed).empty());
    changed = bytes;
    put(changed, manifest.header + offsetof(Elf64_Shdr, sh_offset), huge);
    CHECK_FALSE(refusal(changed).empty());
    changed = bytes;
    put(changed, manifest.header + offsetof(Elf64_Shdr, sh_size), huge);
    CHECK_FALSE(refusal(changed).empty());
    changed = bytes;
    put(changed, section(bytes, ".shstrtab").header + offsetof(Elf64_Shdr, sh_size), huge);
    CHECK_FALSE(refusal(changed).empty());
  }
  auto changed = bytes;
  put(changed, offsetof(Elf64_Ehdr, e_shnum), std::uint16_t{0xFFFF});
  CHECK_FALSE(refusal(changed).empty());
  changed = bytes;
  put(changed, offsetof(Elf64_Ehdr, e_shstrndx), std::uint16_t{0xFFF0});
  CHECK_FALSE(refusal(changed).empty());
}

TEST_CASE("a manifest is checked before it is believed") {
  const auto bytes = bytes_of_file(fixture("every_field"));
  const std::size_t at = section(bytes, ".sluice.manifest").offset;
  const auto with = [&](std::size_t offset, const auto& value) {
    auto changed = bytes;
    put(changed, at + offset, value);
    return refusal(changed);
  };
  const std::size_t field = offsetof(abi::Manifest, fields) + sizeof(abi::FieldRecord);
  CHECK(with(0, 'X').find("SLUICEM1") != std::string::npos);
  CHECK(with(offsetof(abi::Manifest, abi), std::uint32_t{99}).find("version 99 of the plugin interface, this sluice has 1") != std::string::npos);
  CHECK(with(offsetof(abi::Manifest, bytes), std::uint32_t{17}).find("17 bytes") != std::string::npos);
  CHECK(with(offsetof(abi::Manifest, kind), std::uint32_t{0}).find("kind, 0, is unknown") != std::string::npos);
  CHECK(with(offsetof(abi::Manifest, kind), std::uint32_t{12}).find("kind, 12, is unknown") != std::string::npos);
  CHECK(with(offsetof(abi::Manifest, field_count), std::uint32_t{25}).find("25 fields") != std::string::npos);
  CHECK(with(offsetof(abi::Manifest, field_count), ~std::uint32_t{0}).find("fields, more than 24") != std::string::npos);
  std::array<char, 64> endless;
  endless.fill('a');
  CHECK(with(offsetof(abi::Manifest, name), endless).find("name has no end") != std::string::npos);
  CHECK(with(offsetof(abi::Manifest, name), std::array<char, 4>{'.', '.', '/', 'x'}).find("is no name of a plugin") != std::string::npos);
  CHECK(with(offsetof(abi::Manifest, help), std::array<char, 4>{'\x1b', '[', '2', 'J'}).find("not printable") != std::string::npos);
  CHECK(with(offsetof(abi::Manifest, help) + 200, 'x').find("more than zeros") != std::string::npos);
  CHECK(with(field + offsetof(abi::FieldRecord, type), std::uint32_t{0}).find("type of its field 'whole' is unknown") != std::string::npos);
  CHECK(with(field + offsetof(abi::FieldRecord, name), std::array<char, 6>{'t', 'r', 'u', 't', 'h', 0}).find("'truth' twice") != std::string::npos);
  CHECK(with(field + offsetof(abi::FieldRecord, max), std::numeric_limits<double>::quiet_NaN()).find("is no number") != std::string::npos);
}

// Catches any read past the end: run under the address sanitizer, every one would be seen.
TEST_CASE("a file cut at any byte is refused or whole") {
  for (const char* name : {"marker", "two_in_one"}) {
    const auto bytes = bytes_of_file(fixture(name));
    std::size_t accepted = 0;
    for (std::size_t length = 0; length < bytes.size(); ++length) {
      const std::vector<char> cut(bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(length));
      accepted += refusal(cut).empty();
    }
    CHECK(accepted == 0);  // the section table stands at the end of what ld writes
  }
}

TEST_CASE("a byte changed anywhere that the reader looks gives an error or a valid manifest") {
  const auto bytes = bytes_of_file(fixture("two_in_one"));
  Elf64_Ehdr header;
  std::memcpy(&header, bytes.data(), sizeof header);
  std::vector<std::pair<std::size_t, std::size_t>> spans{{0, sizeof header}, {header.e_shoff, header.e_shoff + header.e_shnum * sizeof(Elf64_Shdr)}};
  for (const char* name : {".shstrtab", ".sluice.manifest"}) {
    const Section there = section(bytes, name);
    spans.emplace_back(there.offset, there.offset + there.size);
  }
  std::size_t refused = 0;
  auto changed = bytes;
  for (const auto& [begin, end] : spans)
    for (std::size_t i = begin; i < end; ++i)
      for (const char flip : {'\x01', '\x80', '\xFF'}) {
        changed[i] = static_cast<char>(bytes[i] ^ flip);
        try {
          for (const auto& manifest : read(changed)) REQUIRE(manifest_problem(manifest).empty());
        } catch (const Error& error) {
          ++refused;
          REQUIRE(error.code() == Code::plugin);
          REQUIRE_FALSE(error.message().empty());
        }
        changed[i] = bytes[i];
      }
  CHECK(refused > 5000);
}
