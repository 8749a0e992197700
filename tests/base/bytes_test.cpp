// Sizes: what people write is read as they mean it, and what we write is read back.
#include "framework/base/bytes.hpp"

#include <doctest/doctest.h>
#include <rapidcheck.h>

#include <clocale>
#include <string>

#include <sluice/error.hpp>

using namespace sluice;

// Catches MB taken for MiB: at "6GB" that is 400 MiB of a card that are not there.
TEST_CASE("units are those of ISO and IEC") {
  const std::pair<const char*, std::uint64_t> cases[] = {
      {"0", 0},           {"1", 1},                    {"17B", 17},              {"512MiB", 512 * MiB},   {"512 MiB", 512 * MiB},
      {"1.5GiB", 1536 * MiB}, {"1.5gib", 1536 * MiB},   {"2GB", 2000000000},      {"6GB", 6000000000},     {"2kB", 2000},
      {"4KiB", 4096},     {"1TiB", std::uint64_t{1} << 40}, {"1TB", 1000000000000}, {" 8GiB ", 8 * GiB},   {"0.5KiB", 512},
      {"1048576", MiB},   {"9007199254740993", 9007199254740993}};
  for (const auto& [text, bytes] : cases) {
    CAPTURE(text);
    CHECK(parse_bytes(text) == bytes);
  }
}

TEST_CASE("what is no size is refused with the reason") {
  const std::pair<const char*, const char*> cases[] = {
      {"", "empty"},          {"-1GiB", "negative"},      {"MiB", "does not begin with a number"}, {"8G", "1000 or of 1024"}, {"8g", "1000 or of 1024"},
      {"1.2.3GiB", "is no number"}, {"512Mib/s", "no unit"}, {"nan", "does not begin"},            {"1e9", "no unit"},        {"99999999999999999999", "larger than"},
      {"20000000TiB", "larger than"}, {"8388608.0TiB", "larger than"}, {".", "is no number"},       {"1,5GiB", "no unit"},     {"0x10", "no unit"}};
  for (const auto& [text, why] : cases) {
    CAPTURE(text);
    try {
      static_cast<void>(parse_bytes(text));
      FAIL("accepted");
    } catch (const Error& error) {
      CHECK(error.code() == Code::configuration);
      CHECK(error.message().find(why) != std::string::npos);
      CHECK_FALSE(error.hint().empty());
    }
  }
}

// Catches a smallest budget that is printed rounded down: whoever copies it into the file would be refused again.
TEST_CASE("bytes_to_write never gives less than it was given") {
  rc::check("bytes_to_write", [](std::uint64_t any) {
    const std::uint64_t bytes = any >> (any % 40 + 2);
    const std::uint64_t back = parse_bytes(bytes_to_write(bytes));
    RC_ASSERT(back >= bytes);
    RC_ASSERT(back - bytes <= bytes / 100);
  });
  CHECK(bytes_to_write(1536 * MiB) == "1536MiB");
  CHECK(bytes_to_write(2 * GiB) == "2GiB");
  CHECK(bytes_to_write(1536 * MiB + 1) == "1537MiB");
}

TEST_CASE("format_bytes shows three digits") {
  CHECK(format_bytes(0) == "0 B");
  CHECK(format_bytes(1023) == "1023 B");
  CHECK(format_bytes(1024) == "1.00 KiB");
  CHECK(format_bytes(1536 * MiB) == "1.50 GiB");
  CHECK(format_bytes(612 * MiB) == "612 MiB");
  CHECK(format_bytes(1023 * MiB) == "1.00 GiB");
  CHECK(format_bytes(~std::uint64_t{0}) == "16777216 TiB");
}

// Catches number reading by the C library: under a German locale "1.5" would end at the point.
TEST_CASE("sizes do not depend on the locale") {
  const char* german = std::setlocale(LC_ALL, "de_DE.UTF-8");
  CHECK(parse_bytes("1.5GiB") == 1536 * MiB);
  CHECK(format_bytes(1536 * MiB) == "1.50 GiB");
  if (german) std::setlocale(LC_ALL, "C");
}
