// The record that every plugin carries in the ELF section .sluice.manifest, so that listing, inspecting and checking
// never run a plugin's code. Plain text inside fixed sizes: a pointer would be null in the file.
#pragma once

#include <cstdint>

#include <sluice/abi.hpp>

namespace sluice {

inline constexpr const char* manifest_section = ".sluice.manifest";
inline constexpr char manifest_magic[8] = {'S', 'L', 'U', 'I', 'C', 'E', 'M', '1'};
inline constexpr const char* sdk_version = "0.1.0";

enum class FieldType : std::uint32_t {
  boolean = 1, integer, real, text, integers, reals, texts, map, part  // map: text to text; part: a nested plugin table
};

namespace abi {

enum FieldFlag : std::uint32_t {
  field_required = 1,   // no default
  field_optional = 2,   // may be absent, and absent means something
  field_has_min = 4,
  field_has_max = 8,
  field_open_min = 16,  // the minimum itself is excluded
  field_path = 32,      // a path, relative to the file that names it
  field_open_max = 64,
};

struct FieldRecord {
  char name[40];
  char help[248];
  std::uint32_t type;  // sluice::FieldType
  std::uint32_t flags;
  std::int64_t integer;  // default of boolean and integer
  double real;           // default of real
  double min;
  double max;
  char text[128];     // default of text; of lists and maps as TOML; kind of a part
  char choices[160];  // allowed texts, separated by |
};

enum ManifestFlag : std::uint32_t {
  manifest_parallel = 1,  // may run on several samples at once
  manifest_ordered = 2,   // one instance, in sample order
  manifest_whole_clip = 4,  // what it makes of a frame depends on the clip's other frames, or on where in the clip it stands
};

inline constexpr int max_fields = 24;

// Aligned, so that the records of one section lie without gaps whatever the compiler would like.
struct alignas(64) Manifest {
  char magic[8];
  std::uint32_t bytes;  // of this record
  std::uint32_t abi;
  std::uint32_t kind;
  std::uint32_t flags;
  std::uint32_t threads;  // that its library starts beside the worker that calls it
  std::uint32_t field_count;
  char name[64];
  char help[256];
  char sdk[16];
  char fingerprint[160];  // of the training half; empty for stages
  char reads[128];        // streams, separated by commas; * stands for those named by `on`
  char writes[128];
  FieldRecord fields[max_fields];
};

}  // namespace abi
}  // namespace sluice
