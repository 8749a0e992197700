// The C boundary between the host and a plugin's stage half: plain structs, size-prefixed, no C++ type crosses it.
// Plugin authors include <sluice/stage.hpp> and its neighbours, not this file.
#pragma once

#include <cstddef>
#include <cstdint>

namespace sluice::abi {

inline constexpr std::uint32_t version = 1;
inline constexpr int max_rank = 8;

// What a plugin is. The order is part of the boundary: append only.
enum class Kind : std::uint32_t {
  source = 1, frames, decoder, stage, backbone, head, model, loss, optimizer, schedule, metric
};

struct Text {
  const char* data;
  std::uint64_t size;
};

// Bytes with an owner. Whoever holds the block calls release(owner, data, bytes) exactly once; null release: borrowed.
struct Block {
  void* data;
  std::uint64_t bytes;
  void* owner;
  void (*release)(void* owner, void* data, std::uint64_t bytes);
};

struct Array {
  std::uint32_t size;  // of this struct
  std::uint8_t dtype;  // sluice::DType
  std::uint8_t rank;
  std::uint16_t reserved;
  std::int64_t shape[max_rank];
  char axes[max_rank];  // one letter an axis, e.g. THWC; zeros where unnamed
  double rate;          // frames a second along T; 0 where it has no meaning
  Block block;
};

// What is known about a stream before it exists: the largest shape, and the bytes a stage needs beside it.
struct Info {
  std::uint32_t size;
  std::uint8_t dtype;
  std::uint8_t rank;
  std::uint8_t text;     // 1: the stream is a string
  std::uint8_t varying;  // bit i: the extent of axis i differs from sample to sample, shape[i] is its maximum
  std::int64_t shape[max_rank];
  char axes[max_rank];
  double rate;
  std::uint64_t scratch;  // bytes needed while the stage runs, beside its input and output
};

// Why a call failed. `code` is a sluice::Code; 0 means success.
struct Failure {
  std::uint32_t size;
  std::int32_t code;
  char what[1024];
  char hint[512];
};

// One value of the pipeline file on its way into a field.
struct Value {
  std::uint32_t type;  // sluice::FieldType
  std::uint32_t count;
  std::int64_t integer;  // also bool
  double real;
  Text text;
  const Value* items;  // elements of a list or of a map
  const Text* keys;    // of a map
  const void* part;    // FieldType::part: const Descriptor*
  void* recipe;        // FieldType::part: its configured recipe
};

// A sample as a stage sees it. Functions return 0, or a sluice::Code with `failure` filled.
struct Sample {
  std::uint32_t size;
  std::uint32_t training;  // 1 in training, 0 in evaluation
  std::uint64_t number;    // within its epoch's order
  std::uint64_t epoch;
  void* host;
  const Text* on;  // the streams that the stage was put on
  std::uint64_t on_count;
  int (*get)(void* host, Text name, Array* borrowed, Text* text, Failure*);  // text streams set `text`
  int (*take)(void* host, Text name, Array* owned, Failure*);
  int (*put)(void* host, Text name, Array* owned, Failure*);  // takes the block over, also on failure
  int (*put_text)(void* host, Text name, Text text, Failure*);
  int (*allocate)(void* host, std::uint64_t bytes, Block* block, Failure*);
};

struct RandomKey {
  std::uint64_t key;     // (seed, stage)
  std::uint64_t sample;  // the index of the sample in its source
  std::uint32_t epoch;
  std::uint32_t stream;  // 0, or a number of the stream where a stage is `independent`
};

// Streams by name with their Info, for stages on several streams.
struct InfoMap {
  std::uint32_t size;
  void* host;
  int (*get)(void* host, Text name, Info* info, Failure*);
  int (*put)(void* host, Text name, const Info* info, Failure*);
  const Text* on;
  std::uint64_t on_count;
};

// What a stage may ask about its surroundings, once, after the source was opened.
struct Context {
  std::uint32_t size;
  std::uint32_t class_count;
  const Text* classes;
  std::uint64_t seed;
  std::uint32_t workers;
  Text cache_dir;  // for indices and other files that can be made again
};

struct StageTable {
  std::uint32_t size;
  int (*run)(void* recipe, Sample*, const RandomKey*, Failure*);
  int (*out)(const void* recipe, InfoMap*, Failure*);
  int (*save)(const void* recipe, void* sink, int (*write)(void* sink, const void*, std::uint64_t), Failure*);
  int (*load)(void* recipe, const void* data, std::uint64_t bytes, Failure*);
};

// What the head of a video file says.
struct Header {
  std::uint32_t size;
  std::uint32_t variable_rate;  // 1: frame times are not frame / rate
  std::int64_t frames;
  std::int64_t width;   // as shown, after rotation
  std::int64_t height;
  double rate;
};

struct DecoderTable {
  std::uint32_t size;
  int (*probe)(const void* recipe, Text path, Header*, Failure*);
  // Frame times in seconds, increasing; calls sink once with all of them.
  int (*times)(const void* recipe, Text path, void* sink, void (*put)(void* sink, const double*, std::uint64_t), Failure*);
};

// A video, or the piece of one, as a sampler sees it. Frame 0 is the first of the piece.
struct Video {
  std::uint32_t size;
  std::uint32_t training;
  std::int64_t frames;
  double rate;
  const double* times;  // null unless the sampler asked for them or the rate is variable
  std::int64_t view;    // which of `views` clips of this video, in evaluation
  std::int64_t views;
};

struct FramesTable {
  std::uint32_t size;
  std::int64_t (*count)(const void* recipe, const Video*, Failure*);  // frames that choose() will give; < 0: failure
  int (*choose)(const void* recipe, const Video*, const RandomKey*, std::int64_t* frames, std::int64_t count, Failure*);
  std::int64_t (*views)(const void* recipe, std::uint32_t training);  // 0: whatever eval.clips says
  std::uint32_t wants_times;
};

enum class Unit : std::uint32_t { whole = 0, seconds, frames, fraction };
enum class Split : std::uint32_t { train = 0, val = 1 };

struct Entry {
  std::uint32_t size;
  Split split;
  std::int64_t label;  // -1: none
  Unit unit;           // of start and end
  std::uint32_t stream_count;
  double start;
  double end;
  const Text* stream_names;   // text streams of the sample, e.g. clip -> path of its file
  const Text* stream_values;
  Text group;  // what must stay on one side of a split; may be empty
  Text origin; // where the entry was declared, e.g. list.csv:17; may be empty
};

struct Listing {
  std::uint32_t size;
  void* host;
  int (*classes)(void* host, const Text* names, std::uint64_t count, Failure*);
  int (*add)(void* host, const Entry*, Failure*);
  // An entry that cannot be used; it counts towards max_failures.
  int (*reject)(void* host, Text origin, Text what, Failure*);
  void (*progress)(void* host, Text what, double fraction);
  Context context;
};

struct SourceTable {
  std::uint32_t size;
  int (*list)(void* recipe, const Listing*, Failure*);
};

struct Manifest;

struct Descriptor {
  std::uint32_t size;
  Kind kind;
  const Manifest* manifest;
  void* (*create)(Failure*);
  void (*destroy)(void* recipe);
  int (*set)(void* recipe, Text field, const Value*, Failure*);
  int (*check)(const void* recipe, Failure*);
  int (*prepare)(void* recipe, const Context*, Failure*);
  int (*describe)(const void* recipe, void* sink, void (*put)(void* sink, Text), Failure*);
  const StageTable* stage;
  const SourceTable* source;
  const FramesTable* frames;
  const DecoderTable* decoder;
  const void* training;  // what the training half puts here; valid only behind an equal fingerprint
};

// What a file holds; returned by its one entry point, `sluice_plugin_table`.
struct PluginTable {
  std::uint32_t size;
  std::uint32_t abi;
  const Descriptor* const* begin;
  const Descriptor* const* end;
};

inline constexpr const char* entry_point = "sluice_plugin_table";

}  // namespace sluice::abi
