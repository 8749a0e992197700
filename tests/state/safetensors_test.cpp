// Safetensors files against the format's own Python package, both ways, and against files that lie.
#include <doctest/doctest.h>

#include <array>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "framework/state/files.hpp"
#include "framework/state/safetensors.hpp"
#include "simulated_disk.hpp"
#include "../support/scratch_folder.hpp"

#include <sluice/error.hpp>

namespace fs = std::filesystem;
using namespace sluice;
using sluice::testing::SimulatedDisk;
using sluice::testing::ScratchFolder;

namespace {

const std::string python = "'" SLUICE_SOURCE_DIR "/.venv/bin/python3' '" SLUICE_SOURCE_DIR "/tests/state/safetensors_peer.py' ";

template <class T> std::vector<std::byte> bytes_of_values(const std::vector<T>& values) {
  std::vector<std::byte> bytes(values.size() * sizeof(T));
  if (!bytes.empty()) std::memcpy(bytes.data(), values.data(), bytes.size());
  return bytes;
}

// One tensor of each type, with the values that are easily lost: signed zeros, infinities, a NaN, the smallest denormal.
struct AllTypes {
  static constexpr double inf = std::numeric_limits<double>::infinity();
  std::vector<std::byte> f64 = bytes_of_values<double>({0.1, -0.0, inf, -inf, std::numeric_limits<double>::quiet_NaN(), 5e-324});
  std::vector<std::byte> f32 = bytes_of_values<float>({1.5f, -2.25f, 3.0f, 4.0f, 0.1f, -0.0f});
  std::vector<std::byte> f16 = bytes_of_values<std::uint16_t>({0x3C00, 0xC000, 0x7C00});            // 1, -2, inf
  std::vector<std::byte> bf16 = bytes_of_values<std::uint16_t>({0x3F80, 0xC000, 0x7F80, 0x0001});   // 1, -2, inf, smallest
  std::vector<std::byte> i64 = bytes_of_values<std::int64_t>({std::numeric_limits<std::int64_t>::min(), -1, 7});
  std::vector<std::byte> i32 = bytes_of_values<std::int32_t>({-5});
  std::vector<std::byte> u8 = bytes_of_values<std::uint8_t>({0, 1, 255});
  std::vector<std::byte> boolean = bytes_of_values<std::uint8_t>({1, 0, 1});
  [[nodiscard]] std::vector<TensorToWrite> tensors() const {
    return {{"a.f64", TensorType::f64, {6}, f64}, {"b.f32", TensorType::f32, {1, 2, 3}, f32}, {"c.f16", TensorType::f16, {3}, f16},
            {"d.bf16", TensorType::bf16, {2, 2}, bf16}, {"e.i64", TensorType::i64, {3}, i64}, {"f.i32", TensorType::i32, {}, i32},
            {"g.u8", TensorType::u8, {3, 1}, u8}, {"h.bool", TensorType::boolean, {3}, boolean}, {"i.empty", TensorType::f32, {0, 4}, {}},
            {"\xe5\xb1\x82 \"quoted\" \\ \n", TensorType::u8, {3}, u8}};
  }
};

// Operator + on so many texts makes g++ 12 warn of an overlap that is not there.
std::string joined(std::initializer_list<std::string_view> parts) {
  std::string text;
  for (const auto part : parts) text.append(part);
  return text;
}

// A file with this header and this many bytes of data.
fs::path file_with(const fs::path& folder, const std::string& header, std::size_t data) {
  const auto path = folder / "made.safetensors";
  std::ofstream out(path, std::ios::binary);
  for (int i = 0; i < 8; ++i) out.put(static_cast<char>(header.size() >> (8 * i) & 0xFF));
  out << header << std::string(data, '\0');
  return path;
}

}  // namespace

TEST_CASE("Python's safetensors reads ours, and we read what it writes, value by value") {
  // Catches a wrong offset, dtype name, padding, escape: whatever two sides of our own would agree on.
  const ScratchFolder folder;
  const AllTypes all;
  const auto written = write_safetensors(system_disk(), folder.path() / "ours.safetensors", all.tensors(), {{"format", "pt"}, {"note", "\"\xc3\xbc\"\n"}});
  CHECK(written.bytes == fs::file_size(folder.path() / "ours.safetensors"));
  CHECK(written.hash.size() == 32);
  write_safetensors(system_disk(), folder.path() / "none.safetensors", {}, {});
  REQUIRE(std::system((python + "'" + folder.path().string() + "'").c_str()) == 0);
  const auto path = folder.path() / "theirs.safetensors";
  const SafetensorsFile file(system_disk(), path);
  CHECK(file.metadata() == Metadata{{"format", "pt"}, {"note", "\"\xc3\xbc\"\n"}});
  const auto wanted = all.tensors();
  CHECK(file.tensors().size() == wanted.size());
  for (const auto& tensor : wanted) {
    CAPTURE(tensor.name);
    const auto* found = file.find(tensor.name);
    REQUIRE(found);
    CHECK(found->type == tensor.type);
    CHECK(found->shape == tensor.shape);
    CHECK(file.read(*found) == std::vector<std::byte>(tensor.bytes.begin(), tensor.bytes.end()));
  }
  CHECK_FALSE(file.find("a.f6"));
  std::array<std::byte, 3> small{};
  CHECK_THROWS_WITH_AS(file.read(*file.find("a.f64"), small), doctest::Contains("48 bytes"), Error);
}

TEST_CASE("tensors that lie elsewhere are fetched one at a time, in the file's order") {
  // Catches a writer that gathers all of them on the host.
  const ScratchFolder folder;
  std::vector<float> one(100);
  int fetched = 0;
  std::vector<TensorToWrite> tensors;
  for (int i = 0; i < 10; ++i) {
    TensorToWrite tensor{joined({"t", std::to_string(i)}), TensorType::f32, {100}};
    tensor.fetch = [&one, &fetched, i] {
      CHECK(fetched == i);
      ++fetched;
      one.assign(100, static_cast<float>(i));
      return std::as_bytes(std::span(one));
    };
    tensors.push_back(std::move(tensor));
  }
  write_safetensors(system_disk(), folder.path() / "x", tensors);
  CHECK(fetched == 10);
  const SafetensorsFile file(system_disk(), folder.path() / "x");
  for (int i = 0; i < 10; ++i) {
    const auto bytes = file.read(*file.find(joined({"t", std::to_string(i)})));
    float last = 0;
    std::memcpy(&last, bytes.data() + 396, 4);
    CHECK(last == static_cast<float>(i));
  }
  // Every tensor begins at a multiple of its element's size.
  write_safetensors(system_disk(), folder.path() / "y", AllTypes().tensors());
  const SafetensorsFile mixed(system_disk(), folder.path() / "y");
  for (const auto& tensor : mixed.tensors()) CHECK(tensor.offset % sluice::bytes_of(tensor.type) == 0);
}

TEST_CASE("a header that lies is refused, with the defect") {
  // Catches reads past the file, overlaps, holes, overflow, and names that mean two things.
  const ScratchFolder folder;
  const std::string a = R"("a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]})";
  const std::vector<std::tuple<std::string, std::size_t, std::string>> cases = {
      {"", 0, "does not begin with"},
      {"[]", 0, "does not begin with"},
      {" {}", 0, "does not begin with"},
      {"{", 0, "no JSON"},
      {"{} x", 0, "no JSON"},
      {joined({"{", a, "}"}), 7, "the file has 7"},
      {joined({"{", a, "}"}), 9, "the file has 9"},
      {"{}", 1, "the file has 1"},
      {joined({"{", a, ",", a, "}"}), 8, "begins at 0"},
      {joined({"{", a, R"(,"a":{"dtype":"F32","shape":[0],"data_offsets":[8,8]}})"}), 8, "two tensors are named 'a'"},
      {joined({"{", a, R"(,"b":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}})"}), 12, "begins at 4"},
      {joined({"{", a, R"(,"b":{"dtype":"F32","shape":[2],"data_offsets":[12,20]}})"}), 20, "begins at 12"},
      {R"({"a":{"dtype":"F32","shape":[3],"data_offsets":[0,8]}})", 8, "do not fit F32 [3]"},
      {R"({"a":{"dtype":"F64","shape":[2],"data_offsets":[0,8]}})", 8, "do not fit"},
      {R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[8,0]}})", 8, "ends before it begins"},
      {R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0]}})", 8, "two data_offsets"},
      {R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8,8]}})", 8, "two data_offsets"},
      {R"({"a":{"dtype":"F32","shape":[4611686018427387904,4],"data_offsets":[0,0]}})", 0, "do not fit"},
      {R"({"a":{"dtype":"F32","shape":[18446744073709551615],"data_offsets":[0,0]}})", 0, "extent"},
      {R"({"a":{"dtype":"F32","shape":[184467440737095516160],"data_offsets":[0,0]}})", 0, "not whole"},
      {R"({"a":{"dtype":"F32","shape":[-2],"data_offsets":[0,8]}})", 8, "negative"},
      {R"({"a":{"dtype":"F32","shape":[2.0],"data_offsets":[0,8]}})", 8, "not whole"},
      {R"({"a":{"dtype":"F32","shape":[[2]],"data_offsets":[0,8]}})", 8, "a list"},
      {R"({"a":{"dtype":"F32","shape":[{}],"data_offsets":[0,8]}})", 8, "nested too deep"},
      {R"({"a":{"dtype":"F32","shape":["2"],"data_offsets":[0,8]}})", 8, "a text"},
      {R"({"a":{"dtype":"F8_E4M3","shape":[8],"data_offsets":[0,8]}})", 8, "'F8_E4M3', which is not supported"},
      {R"({"a":{"dtype":"F32","shape":[2]}})", 8, "lacks one of"},
      {R"({"a":{"dtype":"F32","shape":[2],"shape":[2],"data_offsets":[0,8]}})", 8, "shape twice"},
      {R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8],"code":"x"}})", 8, "a text"},
      {R"({"a":null})", 0, "null"},
      {R"({"a":[]})", 0, "a list"},
      {R"({"__metadata__":{"x":1}})", 0, "a number"},
      {R"({"__metadata__":{"x":"1","x":"2"}})", 0, "twice"},
      {R"({"__metadata__":{},"__metadata__":{}})", 0, "two '__metadata__'"},
      {"{\"\xff\":{}}", 0, "no JSON"},
      {std::string(50000, '['), 0, "does not begin with"},
      {joined({"{\"a\":", std::string(50000, '[')}), 0, "a list"},
  };
  for (const auto& [header, data, defect] : cases) {
    CAPTURE(header.substr(0, 200));
    const auto path = file_with(folder.path(), header, data);
    try {
      const SafetensorsFile file(system_disk(), path);
      FAIL_CHECK("accepted");
    } catch (const Error& error) {
      CHECK(error.code() == Code::data);
      CHECK(error.where() == path.string());
      CHECK_MESSAGE(error.message().find(defect) != std::string::npos, error.message());
    }
  }
  CHECK_NOTHROW(SafetensorsFile(system_disk(), file_with(folder.path(), joined({"{", a, "}"}), 8)));
}

TEST_CASE("a length that lies is refused before anything is allocated") {
  const ScratchFolder folder;
  for (const std::uint64_t claimed : {std::uint64_t{3}, std::uint64_t{100'000'001}, ~std::uint64_t{0}, std::uint64_t{1} << 63}) {
    std::ofstream out(folder.path() / "x", std::ios::binary);
    for (int i = 0; i < 8; ++i) out.put(static_cast<char>(claimed >> (8 * i) & 0xFF));
    out << "{}";
    out.close();
    CHECK_THROWS_WITH_AS(SafetensorsFile(system_disk(), folder.path() / "x"), doctest::Contains("the header claims"), Error);
  }
  for (std::size_t size = 0; size < 8; ++size) {
    std::ofstream(folder.path() / "x", std::ios::binary) << std::string(size, '\0');
    CHECK_THROWS_WITH_AS(SafetensorsFile(system_disk(), folder.path() / "x"), doctest::Contains("too few"), Error);
  }
}

TEST_CASE("what cannot be written is refused by name") {
  SimulatedDisk disk;
  const std::vector<std::byte> four(4);
  const auto write = [&](TensorToWrite tensor) { write_safetensors(disk, "x", {std::move(tensor)}); };
  CHECK_THROWS_WITH_AS(write({"__metadata__", TensorType::u8, {4}, four}), doctest::Contains("__metadata__"), Error);
  CHECK_THROWS_WITH_AS(write({"a", TensorType::u8, {-4}, four}), doctest::Contains("impossible shape [-4]"), Error);
  CHECK_THROWS_WITH_AS(write({"a", TensorType::f32, {std::int64_t{1} << 40, std::int64_t{1} << 40}, four}), doctest::Contains("impossible shape"), Error);
  CHECK_THROWS_WITH_AS(write({"a", TensorType::f32, {2}, four}), doctest::Contains("has 4 bytes, its shape says 8"), Error);
  CHECK_THROWS_WITH_AS(write({"\xff", TensorType::u8, {4}, four}), doctest::Contains("not UTF-8"), Error);
}
