// A host for tests: loads a plugin by absolute path and calls it through the C boundary alone, as sluice does, with every
// byte counted and every answer checked against what the plugin declared.
//
//   using namespace sluice::testing;
//   const Plugin plugin(built_plugin("augment.hflip"));
//   Recipe hflip = plugin.recipe("augment.hflip", {{"p", 1.0}});   // sets fields, then check()
//   hflip.prepare({.classes = {"left", "right"}});
//   FakeSample sample;
//   sample.put_noise("clip", 16, 64, 64);
//   hflip.run(sample, {.on = {"clip"}, .key = key_of(7)});               // throws sluice::Error, see run()
//
// decode(), probe(), times(): decoders. count(), choose(), views(): samplers. list(): sources. out(): bounds of a stage.
#pragma once

#include <dlfcn.h>

#include <algorithm>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include <sluice/abi.hpp>
#include <sluice/error.hpp>
#include <sluice/info.hpp>
#include <sluice/manifest.hpp>

#include "fake_sample.hpp"

namespace sluice::testing {

#ifdef SLUICE_BINARY_DIR
// Where this build leaves the built-in plugin of that file name.
inline std::string built_plugin(const std::string& name) { return SLUICE_BINARY_DIR "/lib/sluice/plugins/" + name + ".so"; }
#endif

namespace detail {
inline abi::Text text(std::string_view view) { return {view.data(), view.size()}; }
inline std::string text_of(abi::Text raw) { return raw.size == 0 ? std::string() : std::string(raw.data, raw.size); }
inline abi::Failure no_failure() {
  abi::Failure failure{};
  failure.size = sizeof failure;
  return failure;
}
inline void throw_if(int status, const abi::Failure& failure) {
  if (status == 0) return;
  if (status != failure.code) throw Error(Code::plugin, "the plugin returned " + std::to_string(status) + " with a failure of code " + std::to_string(failure.code));
  throw Error(static_cast<Code>(failure.code), failure.what, failure.hint);
}
inline int fail(abi::Failure* failure, const Error& error) {
  failure->code = static_cast<int>(error.code());
  const auto n = std::min(error.message().size(), sizeof failure->what - 1);
  std::copy_n(error.message().data(), n, failure->what);
  failure->what[n] = 0;
  failure->hint[0] = 0;
  return failure->code;
}
template <class Function> int answered(abi::Failure* failure, Function&& function) {
  try {
    function();
    return 0;
  } catch (const Error& error) {
    return fail(failure, error);
  }
}
inline std::vector<std::string> split(std::string_view joined, const std::vector<std::string>& on) {
  std::vector<std::string> names;
  while (!joined.empty()) {
    const auto comma = joined.find(',');
    const auto name = joined.substr(0, comma);
    if (name == "*") names.insert(names.end(), on.begin(), on.end());
    else if (!name.empty()) names.emplace_back(name);
    joined = comma == std::string_view::npos ? std::string_view() : joined.substr(comma + 1);
  }
  return names;
}
inline bool contains(const std::vector<std::string>& names, const std::string& name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}
}  // namespace detail

class Recipe;

// A value for a field, as a pipeline file would give it.
using Map = std::vector<std::pair<std::string, std::string>>;
struct Setting {
  using Any = std::variant<bool, std::int64_t, double, std::string, std::vector<std::int64_t>, std::vector<double>, std::vector<std::string>, Map, const Recipe*>;
  std::string name;
  Any value;

  Setting(std::string field, bool v) : name(std::move(field)), value(v) {}
  Setting(std::string field, int v) : name(std::move(field)), value(std::int64_t{v}) {}
  Setting(std::string field, std::int64_t v) : name(std::move(field)), value(v) {}
  Setting(std::string field, double v) : name(std::move(field)), value(v) {}
  Setting(std::string field, const char* v) : name(std::move(field)), value(std::string(v)) {}
  Setting(std::string field, std::string v) : name(std::move(field)), value(std::move(v)) {}
  Setting(std::string field, std::vector<std::int64_t> v) : name(std::move(field)), value(std::move(v)) {}
  Setting(std::string field, std::vector<double> v) : name(std::move(field)), value(std::move(v)) {}
  Setting(std::string field, std::vector<std::string> v) : name(std::move(field)), value(std::move(v)) {}
  Setting(std::string field, Map v) : name(std::move(field)), value(std::move(v)) {}
  Setting(std::string field, const Recipe& v) : name(std::move(field)), value(&v) {}
};

struct Surroundings {
  std::vector<std::string> classes{};
  std::uint64_t seed = 0;
  std::uint32_t workers = 1;
  std::string cache_dir{};
};

inline abi::RandomKey key_of(std::uint64_t sample, std::uint64_t key = 1, std::uint32_t epoch = 0, std::uint32_t stream = 0) { return {key, sample, epoch, stream}; }

struct Run {
  std::vector<std::string> on{"clip"};
  abi::RandomKey key{};
  std::optional<std::uint64_t> limit{};  // bytes of new blocks; default: what out() says
};

struct VideoOf {
  std::int64_t frames = 0;
  double rate = 25;
  std::vector<double> times{};
  std::int64_t view = 0;
  std::int64_t views = 1;
  bool training = true;
};

struct Listed {
  struct Item {
    abi::Split split;
    std::int64_t label;
    std::map<std::string, std::string> streams;
    abi::Unit unit;
    double start, end;
    std::string group, origin;
  };
  struct Reject {
    std::string origin, why;
  };
  std::vector<std::string> classes;
  std::vector<Item> items;
  std::vector<Reject> rejects;
  std::uint64_t added = 0;  // also when the items themselves were not kept
};

// A configured plugin.
class Recipe {
 public:
  explicit Recipe(const abi::Descriptor* descriptor) : descriptor_(descriptor), recipe_(make(descriptor), descriptor->destroy) {}

  [[nodiscard]] const abi::Manifest& manifest() const { return *descriptor_->manifest; }
  [[nodiscard]] const abi::Descriptor& descriptor() const { return *descriptor_; }
  [[nodiscard]] void* raw() const { return recipe_.get(); }

  // Checked against the manifest as the host does it: name, type, range, choices.
  void set(const Setting& setting) {
    const auto& field = field_of(setting.name);
    Holder holder(setting.value, static_cast<FieldType>(field.type), setting.name);
    check_range(field, holder.value);
    auto failure = detail::no_failure();
    detail::throw_if(descriptor_->set(raw(), detail::text(setting.name), &holder.value, &failure), failure);
  }
  void check() const {
    auto failure = detail::no_failure();
    detail::throw_if(descriptor_->check(raw(), &failure), failure);
  }
  void prepare(const Surroundings& around = {}) {
    Context context(around);
    auto failure = detail::no_failure();
    detail::throw_if(descriptor_->prepare(raw(), &context.raw, &failure), failure);
  }
  [[nodiscard]] std::string describe() const {
    std::string out;
    auto failure = detail::no_failure();
    detail::throw_if(descriptor_->describe(raw(), &out, [](void* sink, abi::Text text) { *static_cast<std::string*>(sink) += detail::text_of(text); }, &failure), failure);
    return out;
  }

  // --- stages -------------------------------------------------------------------------------------------------------

  // What the stage declares for streams that look so; streams it was not put on may be among them (e.g. label).
  [[nodiscard]] std::map<std::string, Info> out(std::map<std::string, Info> streams, const std::vector<std::string>& on = {"clip"}) const {
    InfoCall call{&streams, detail::split(manifest().reads, on), detail::split(manifest().writes, on)};
    const auto names = texts(on);
    abi::InfoMap map{sizeof(abi::InfoMap), &call, &InfoCall::get, &InfoCall::put, names.data(), names.size()};
    auto failure = detail::no_failure();
    detail::throw_if(descriptor_->stage->out(raw(), &map, &failure), failure);
    return streams;
  }
  [[nodiscard]] Info out(const Info& info) const { return out({{"clip", info}}).at("clip"); }

  // Runs the stage and throws sluice::Error when it fails, takes more bytes than its out() declared, leaves a stream
  // behind that is not as declared, leaks or writes past its blocks.
  void run(FakeSample& sample, const Run& how = {}) {
    std::map<std::string, Info> infos;
    for (const auto& name : streams_of(how.on))
      if (sample.has(name)) infos[name] = sample.info(name);
    const auto declared = out(infos, how.on);
    call_stage(sample, how, declared);
  }

  // --- decoders -----------------------------------------------------------------------------------------------------

  [[nodiscard]] abi::Header probe(const std::string& path) const {
    abi::Header header{};
    header.size = sizeof header;
    auto failure = detail::no_failure();
    detail::throw_if(descriptor_->decoder->probe(raw(), detail::text(path), &header, &failure), failure);
    return header;
  }
  [[nodiscard]] std::vector<double> times(const std::string& path) const {
    std::vector<double> all;
    auto failure = detail::no_failure();
    const auto put = [](void* sink, const double* values, std::uint64_t count) { static_cast<std::vector<double>*>(sink)->assign(values, values + count); };
    detail::throw_if(descriptor_->decoder->times(raw(), detail::text(path), &all, put, &failure), failure);
    return all;
  }
  // Puts path and frame numbers into the sample, decodes, and leaves the clip and its times there.
  void decode(FakeSample& sample, const std::string& path, const std::vector<std::int64_t>& frames, const std::string& stream = "clip") {
    const auto header = probe(path);
    const auto count = static_cast<std::int64_t>(frames.size());
    sample.put_text(stream, path);
    sample.put_values<std::int64_t>(stream + ".frames", {count}, "T", frames);
    auto declared = out({{stream, Info::video(count, header.height, header.width, header.rate)}}, {stream});
    Info times_info;
    times_info.dtype = DType::f64;
    times_info.shape = {count};
    declared[stream + ".times"] = times_info;
    call_stage(sample, {.on = {stream}, .key = {}, .limit = {}}, declared);
  }

  // --- samplers -----------------------------------------------------------------------------------------------------

  [[nodiscard]] std::int64_t count(const VideoOf& video) const {
    const auto raw_video = video_of(video);
    auto failure = detail::no_failure();
    const auto n = descriptor_->frames->count(raw(), &raw_video, &failure);
    if (n < 0) throw Error(static_cast<Code>(failure.code), failure.what, failure.hint);
    return n;
  }
  [[nodiscard]] std::vector<std::int64_t> choose(const VideoOf& video, const abi::RandomKey& key = {}) const {
    const auto raw_video = video_of(video);
    std::vector<std::int64_t> frames(static_cast<std::size_t>(count(video)), -1);
    auto failure = detail::no_failure();
    detail::throw_if(descriptor_->frames->choose(raw(), &raw_video, &key, frames.data(), static_cast<std::int64_t>(frames.size()), &failure), failure);
    for (const auto frame : frames)
      if (frame < 0 || frame >= video.frames) throw Error(Code::plugin, "frame " + std::to_string(frame) + " is outside of the video");
    return frames;
  }
  [[nodiscard]] std::int64_t views(bool training) const { return descriptor_->frames->views(raw(), training ? 1 : 0); }

  // --- sources ------------------------------------------------------------------------------------------------------

  // keep = false only counts the items, for very long lists.
  [[nodiscard]] Listed list(const Surroundings& around = {}, bool keep = true) const {
    ListCall call{{}, keep};
    const Context context(around);
    const abi::Listing listing{sizeof(abi::Listing), &call, &ListCall::classes, &ListCall::add, &ListCall::reject, &ListCall::progress, context.raw};
    auto failure = detail::no_failure();
    detail::throw_if(descriptor_->source->list(raw(), &listing, &failure), failure);
    return std::move(call.listed);
  }

 private:
  struct Context {
    std::vector<abi::Text> names;
    abi::Context raw;
    explicit Context(const Surroundings& around) : names(texts(around.classes)), raw{} {
      raw = {sizeof(abi::Context), static_cast<std::uint32_t>(names.size()), names.data(), around.seed, around.workers, detail::text(around.cache_dir)};
    }
  };

  // An abi::Value and what it points to.
  struct Holder {
    abi::Value value{};
    std::vector<abi::Value> items;
    std::vector<abi::Text> keys;

    Holder(const Setting::Any& any, FieldType type, const std::string& name) {
      value.type = static_cast<std::uint32_t>(type);
      const auto wrong = [&] { return Error(Code::configuration, "the field '" + name + "' has another type"); };
      const auto element = [](FieldType of) {
        abi::Value item{};
        item.type = static_cast<std::uint32_t>(of);
        return item;
      };
      if (const auto* flag = std::get_if<bool>(&any); flag && type == FieldType::boolean) value.integer = *flag;
      else if (const auto* whole = std::get_if<std::int64_t>(&any); whole && type == FieldType::integer) value.integer = *whole;
      else if (whole && type == FieldType::real) value.real = static_cast<double>(*whole);
      else if (const auto* real = std::get_if<double>(&any); real && type == FieldType::real) value.real = *real;
      else if (const auto* string = std::get_if<std::string>(&any); string && type == FieldType::text) value.text = detail::text(*string);
      else if (const auto* wholes = std::get_if<std::vector<std::int64_t>>(&any); wholes && (type == FieldType::integers || type == FieldType::reals)) {
        for (const auto n : *wholes) {
          items.push_back(element(type == FieldType::integers ? FieldType::integer : FieldType::real));
          items.back().integer = n, items.back().real = static_cast<double>(n);
        }
      } else if (const auto* reals = std::get_if<std::vector<double>>(&any); reals && type == FieldType::reals) {
        for (const auto x : *reals) items.push_back(element(FieldType::real)), items.back().real = x;
      } else if (const auto* strings = std::get_if<std::vector<std::string>>(&any); strings && type == FieldType::texts) {
        for (const auto& s : *strings) items.push_back(element(FieldType::text)), items.back().text = detail::text(s);
      } else if (const auto* map = std::get_if<Map>(&any); map && type == FieldType::map) {
        for (const auto& [key, text] : *map) {
          keys.push_back(detail::text(key));
          items.push_back(element(FieldType::text)), items.back().text = detail::text(text);
        }
      } else if (const auto* part = std::get_if<const Recipe*>(&any); part && type == FieldType::part) {
        value.part = &(*part)->descriptor();
        value.recipe = (*part)->raw();
      } else {
        throw wrong();
      }
      value.items = items.data();
      value.keys = keys.data();
      value.count = static_cast<std::uint32_t>(items.size());
    }
  };

  struct InfoCall {
    std::map<std::string, Info>* streams;
    std::vector<std::string> reads, writes;

    static int get(void* host, abi::Text name, abi::Info* info, abi::Failure* failure) {
      return detail::answered(failure, [&] {
        auto& call = *static_cast<InfoCall*>(host);
        const auto key = detail::text_of(name);
        if (!detail::contains(call.reads, key) && !detail::contains(call.writes, key)) throw Error(Code::plugin, "out() asks for the stream '" + key + "', which it did not declare");
        const auto found = call.streams->find(key);
        if (found == call.streams->end()) throw Error(Code::plugin, "there is no stream '" + key + "'");
        *info = found->second.raw();
      });
    }
    static int put(void* host, abi::Text name, const abi::Info* info, abi::Failure* failure) {
      return detail::answered(failure, [&] {
        auto& call = *static_cast<InfoCall*>(host);
        const auto key = detail::text_of(name);
        if (!detail::contains(call.writes, key)) throw Error(Code::plugin, "out() writes the stream '" + key + "', which it did not declare");
        (*call.streams)[key] = Info::from(*info);
      });
    }
  };

  struct StageCall {
    FakeSample* sample;
    std::vector<std::string> reads, writes, taken;

    static int get(void* host, abi::Text name, abi::Array* borrowed, abi::Text* text, abi::Failure* failure) {
      return detail::answered(failure, [&] {
        auto& call = *static_cast<StageCall*>(host);
        auto& found = call.find(name, call.reads);
        if (borrowed && found.is_text) throw Error(Code::plugin, "the stream '" + detail::text_of(name) + "' is a text");
        if (text && !found.is_text) throw Error(Code::plugin, "the stream '" + detail::text_of(name) + "' is an array");
        if (borrowed) *borrowed = call.sample->array(detail::text_of(name)).raw();
        if (text) *text = detail::text(found.text);
      });
    }
    static int take(void* host, abi::Text name, abi::Array* owned, abi::Failure* failure) {
      return detail::answered(failure, [&] {
        auto& call = *static_cast<StageCall*>(host);
        static_cast<void>(call.find(name, call.reads));
        *owned = call.sample->array(detail::text_of(name)).release();
        call.taken.push_back(detail::text_of(name));
      });
    }
    static int put(void* host, abi::Text name, abi::Array* owned, abi::Failure* failure) {
      return detail::answered(failure, [&] {
        Array array(*owned);  // taken over, also on failure
        auto& call = *static_cast<StageCall*>(host);
        const auto key = detail::text_of(name);
        call.may_write(key);
        call.sample->streams()[key] = {false, {}, std::move(array)};
        std::erase(call.taken, key);
      });
    }
    static int put_text(void* host, abi::Text name, abi::Text text, abi::Failure* failure) {
      return detail::answered(failure, [&] {
        auto& call = *static_cast<StageCall*>(host);
        call.may_write(detail::text_of(name));
        call.sample->put_text(detail::text_of(name), detail::text_of(text));
      });
    }
    static int allocate(void* host, std::uint64_t bytes, abi::Block* block, abi::Failure* failure) {
      return detail::answered(failure, [&] { *block = static_cast<StageCall*>(host)->sample->ledger().take(bytes); });
    }

    FakeSample::Stream& find(abi::Text name, const std::vector<std::string>& declared) {
      const auto key = detail::text_of(name);
      if (!detail::contains(declared, key)) throw Error(Code::plugin, "it reads the stream '" + key + "', which it did not declare");
      return sample->stream(key);
    }
    void may_write(const std::string& key) const {
      if (!detail::contains(writes, key)) throw Error(Code::plugin, "it writes the stream '" + key + "', which it did not declare");
    }
  };

  struct ListCall {
    Listed listed;
    bool keep;

    static int classes(void* host, const abi::Text* names, std::uint64_t count, abi::Failure*) {
      auto& out = static_cast<ListCall*>(host)->listed.classes;
      out.clear();
      for (std::uint64_t i = 0; i < count; ++i) out.push_back(detail::text_of(names[i]));
      return 0;
    }
    static int add(void* host, const abi::Entry* entry, abi::Failure* failure) {
      return detail::answered(failure, [&] {
        auto& call = *static_cast<ListCall*>(host);
        if (entry->label < -1 || (entry->label >= 0 && entry->label >= static_cast<std::int64_t>(call.listed.classes.size())))
          throw Error(Code::plugin, "an entry has the label " + std::to_string(entry->label) + " of " + std::to_string(call.listed.classes.size()) + " classes");
        ++call.listed.added;
        if (!call.keep) return;
        Listed::Item item{entry->split, entry->label, {}, entry->unit, entry->start, entry->end, detail::text_of(entry->group), detail::text_of(entry->origin)};
        for (std::uint32_t i = 0; i < entry->stream_count; ++i) item.streams[detail::text_of(entry->stream_names[i])] = detail::text_of(entry->stream_values[i]);
        call.listed.items.push_back(std::move(item));
      });
    }
    static int reject(void* host, abi::Text origin, abi::Text what, abi::Failure*) {
      static_cast<ListCall*>(host)->listed.rejects.push_back({detail::text_of(origin), detail::text_of(what)});
      return 0;
    }
    static void progress(void*, abi::Text, double) {}
  };

  static void* make(const abi::Descriptor* descriptor) {
    auto failure = detail::no_failure();
    void* made = descriptor->create(&failure);
    if (!made) throw Error(static_cast<Code>(failure.code), failure.what, failure.hint);
    return made;
  }
  static std::vector<abi::Text> texts(const std::vector<std::string>& names) {
    std::vector<abi::Text> out;
    for (const auto& name : names) out.push_back(detail::text(name));
    return out;
  }
  static abi::Video video_of(const VideoOf& video) {
    return {sizeof(abi::Video), video.training ? 1u : 0u, video.frames, video.rate, video.times.empty() ? nullptr : video.times.data(), video.view, video.views};
  }

  [[nodiscard]] const abi::FieldRecord& field_of(const std::string& name) const {
    for (std::uint32_t i = 0; i < manifest().field_count; ++i)
      if (manifest().fields[i].name == name) return manifest().fields[i];
    throw Error(Code::configuration, std::string(manifest().name) + " has no field '" + name + "'");
  }
  static void check_range(const abi::FieldRecord& field, const abi::Value& value) {
    const auto type = static_cast<FieldType>(field.type);
    const auto number = [&](double x) {
      const bool low = (field.flags & abi::field_has_min) && !(field.flags & abi::field_open_min ? x > field.min : x >= field.min);
      const bool high = (field.flags & abi::field_has_max) && !(field.flags & abi::field_open_max ? x < field.max : x <= field.max);
      if (low || high) throw Error(Code::configuration, std::string(field.name) + " = " + std::to_string(x) + " is out of range");
    };
    const auto choice = [&](const std::string& x) {
      if (field.choices[0] && (std::string("|") + field.choices + "|").find(std::string("|") + x + "|") == std::string::npos)
        throw Error(Code::configuration, std::string(field.name) + " = \"" + x + "\" is none of " + field.choices);
    };
    if (type == FieldType::integer) number(static_cast<double>(value.integer));
    if (type == FieldType::real) number(value.real);
    if (type == FieldType::text) choice(detail::text_of(value.text));
    for (std::uint32_t i = 0; i < value.count; ++i) {
      if (type == FieldType::integers) number(static_cast<double>(value.items[i].integer));
      if (type == FieldType::reals) number(value.items[i].real);
      if (type == FieldType::texts) choice(detail::text_of(value.items[i].text));
    }
  }

  // All that the stage may touch when it is put on these streams.
  [[nodiscard]] std::vector<std::string> streams_of(const std::vector<std::string>& on) const {
    auto names = detail::split(manifest().reads, on);
    for (auto& name : detail::split(manifest().writes, on)) names.push_back(std::move(name));
    return names;
  }

  void call_stage(FakeSample& sample, const Run& how, const std::map<std::string, Info>& declared) {
    StageCall call{&sample, detail::split(manifest().reads, how.on), detail::split(manifest().writes, how.on), {}};
    if (descriptor_->kind == abi::Kind::decoder)
      for (const auto& name : how.on) call.reads.push_back(name + ".frames"), call.writes.push_back(name + ".times");
    std::uint64_t allowance = 0;
    for (const auto& [name, info] : declared)
      if (detail::contains(call.writes, name)) allowance += std::max<std::uint64_t>(1, info.bytes()) + info.scratch;

    const auto names = texts(how.on);
    abi::Sample raw_sample{sizeof(abi::Sample), sample.training ? 1u : 0u, sample.number, sample.epoch, &call, names.data(), names.size(),
                           &StageCall::get, &StageCall::take, &StageCall::put, &StageCall::put_text, &StageCall::allocate};
    auto failure = detail::no_failure();
    sample.ledger().limit(how.limit.value_or(allowance));
    const int status = descriptor_->stage->run(raw(), &raw_sample, &how.key, &failure);
    sample.ledger().unlimit();

    std::size_t held = 0;
    for (const auto& [name, stream] : sample.streams()) held += !stream.is_text && !stream.array.empty_handle();
    if (sample.ledger().blocks() != held) throw Error(Code::plugin, "it leaked " + std::to_string(sample.ledger().blocks() - held) + " blocks");
    for (const auto& fault : sample.ledger().faults()) throw Error(Code::plugin, fault);
    detail::throw_if(status, failure);
    for (const auto& name : call.taken) throw Error(Code::plugin, "it took the stream '" + name + "' and put nothing back");
    for (const auto& [name, info] : declared)
      if (detail::contains(call.writes, name)) compare(sample, name, info);
  }

  // A stream must be what was declared; an extent may be smaller only where the declaration says that it varies.
  static void compare(FakeSample& sample, const std::string& name, const Info& info) {
    if (info.text) return;
    const auto came = sample.info(name);
    bool same = !came.text && came.dtype == info.dtype && came.shape.rank() == info.shape.rank();
    for (int axis = 0; same && axis < info.shape.rank(); ++axis)
      same = info.varies(axis) ? came.shape[axis] <= info.shape[axis] : came.shape[axis] == info.shape[axis];
    if (!same)
      throw Error(Code::plugin, "declared '" + name + "' as " + std::string(name_of(info.dtype)) + " " + info.shape.text() + " and left " +
                                    (came.text ? "a text" : std::string(name_of(came.dtype)) + " " + came.shape.text()));
  }

  const abi::Descriptor* descriptor_;
  std::unique_ptr<void, void (*)(void*)> recipe_;
};

// A loaded plugin file; never unloaded, as in sluice.
class Plugin {
 public:
  explicit Plugin(const std::string& path) : path_(path) {
    if (path.empty() || path[0] != '/') throw Error(Code::plugin, "a plugin is loaded by its absolute path, not '" + path + "'");
    void* handle = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (!handle) throw Error(Code::plugin, std::string("cannot load: ") + dlerror());
    const auto entry = reinterpret_cast<const abi::PluginTable* (*)()>(dlsym(handle, abi::entry_point));
    if (!entry) throw Error(Code::plugin, path + " has no " + abi::entry_point);
    table_ = entry();
    if (table_->abi != abi::version) throw Error(Code::plugin, path + " speaks another version of the boundary");
  }

  [[nodiscard]] std::span<const abi::Descriptor* const> all() const { return {table_->begin, table_->end}; }
  [[nodiscard]] const abi::Descriptor* find(std::string_view name) const {
    for (const auto* descriptor : all())
      if (descriptor->manifest->name == name) return descriptor;
    throw Error(Code::plugin, path_ + " holds no '" + std::string(name) + "'");
  }
  // Sets the fields and calls check().
  [[nodiscard]] Recipe recipe(std::string_view name, const std::vector<Setting>& settings = {}) const {
    Recipe made(find(name));
    for (const auto& setting : settings) made.set(setting);
    made.check();
    return made;
  }

 private:
  std::string path_;
  const abi::PluginTable* table_ = nullptr;
};

#ifdef SLUICE_BINARY_DIR
// The one plugin of a built-in file, configured: built("augment.hflip", {{"p", 1.0}}).
inline Recipe built(const std::string& name, const std::vector<Setting>& settings = {}) { return Plugin(built_plugin(name)).recipe(name, settings); }
#endif

}  // namespace sluice::testing
