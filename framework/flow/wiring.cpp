// Builds the graph of the stages from their streams, and finds what is wrong with it before anything runs.
#include "framework/flow/wiring.hpp"

#include <algorithm>
#include <map>
#include <set>
#include <utility>

#include <fmt/format.h>

#include <sluice/error.hpp>

#include "framework/base/strings.hpp"
#include "framework/flow/feed.hpp"
#include "framework/plugin/registry.hpp"

namespace sluice {
namespace {

bool contains(const std::vector<std::string>& all, const std::string& one) { return std::find(all.begin(), all.end(), one) != all.end(); }

// "*,label" with on = [left, right] -> left, right, label; "*.times" -> left.times, right.times.
std::vector<std::string> expand(std::string_view pattern, const std::vector<std::string>& on) {
  std::vector<std::string> names;
  const auto add = [&](std::string name) {
    if (!name.empty() && !contains(names, name)) names.push_back(std::move(name));
  };
  for (const auto& part : split(pattern, ',')) {
    const std::string word(trim(part));
    const auto star = word.find('*');
    if (star == std::string::npos) add(word);
    else for (const auto& stream : on) add(word.substr(0, star) + stream + word.substr(star + 1));
  }
  return names;
}

bool never_together(const StageShape& a, const StageShape& b) { return !a.only.empty() && !b.only.empty() && a.only != b.only; }

std::string title(const StageShape& stage) { return "stage " + stage.name; }

// One pass over the stages in the order of the file: those that run in one mode, to find what is wrong, or (`training`
// unset) all of them, for the edges. An edge between two that never run on the same sample does no harm: one passes on.
class Pass {
 public:
  Pass(const std::vector<StageShape>& stages, const std::optional<std::vector<std::string>>& source, std::optional<bool> training)
      : stages_(stages), source_(source), training_(training), before_(stages.size()) {}

  void run() {
    for (int i = 0; i < static_cast<int>(stages_.size()); ++i)
      if (!training_ || stages_[static_cast<std::size_t>(i)].runs_in(*training_)) add(i);
  }

  [[nodiscard]] std::vector<std::set<int>>& before() { return before_; }
  [[nodiscard]] const std::set<std::string>& from_source() const { return from_source_; }

 private:
  struct Stream {
    std::vector<int> writers;  // the last; several only where they never run on the same sample
    std::vector<int> readers;  // since then
    bool gone = false;
  };

  void add(int i) {
    const auto& stage = stages_[static_cast<std::size_t>(i)];
    for (const auto& name : stage.reads) read(i, stage, name);
    for (const auto& name : stage.writes) write(i, stage, name);
    for (const auto& name : stage.consumes) {
      write(i, stage, name);
      streams_[name].gone = true;
    }
  }

  void read(int i, const StageShape& stage, const std::string& name) {
    auto& stream = streams_[name];
    if (stream.writers.empty() || stream.gone) {
      if (training_ && (stream.gone || !source_gives(name))) nobody_writes(i, stage, name);
      from_source_.insert(name);
    }
    for (const int writer : stream.writers) {
      if (training_ && stage.at_admission())
        throw Error(Code::configuration, fmt::format("{} chooses frames of the file that the source names, but '{}' comes from {}", title(stage), name, title(at(writer))),
                    "put it before every other stage of this stream", stage.place);
      before_[index(i)].insert(writer);
    }
    if (!contains(stage.writes, name) && !contains(stage.consumes, name)) stream.readers.push_back(i);
  }

  void write(int i, const StageShape& stage, const std::string& name) {
    auto& stream = streams_[name];
    const bool reads_it = contains(stage.reads, name);
    bool beside = !stream.writers.empty();  // takes turns with the last writers: one in training, the other in evaluation
    for (const int writer : stream.writers) {
      if (writer == i) return;
      if (reads_it || !never_together(stage, at(writer))) beside = false;
      if (training_ && !reads_it && !never_together(stage, at(writer)) && !reaches(writer, i))
        throw Error(Code::configuration, fmt::format("{} and {} both write '{}', and nothing says which comes first", title(at(writer)), title(stage), name),
                    fmt::format("let one of them read what the other writes, give them different streams, or remove one ({} stands at {})",
                                title(at(writer)), at(writer).place),
                    stage.place);
    }
    for (const int reader : stream.readers)
      if (reader != i) before_[index(i)].insert(reader);
    if (!beside) stream.writers.clear();
    stream.writers.push_back(i);
    stream.readers.clear();
    stream.gone = false;
  }

  [[nodiscard]] bool source_gives(const std::string& name) const {
    return source_ ? contains(*source_, name) : name.find('.') == std::string::npos;
  }

  [[noreturn]] void nobody_writes(int i, const StageShape& stage, const std::string& name) const {
    const std::string mode = training_ ? (*training_ ? " in training" : " in evaluation") : "";
    const auto later = later_writer(i, name);
    if (later && depends(*later, i))
      throw Error(Code::configuration, fmt::format("a cycle: {} reads '{}', which {} writes, and that one needs what {} writes", title(stage), name,
                                                   title(at(*later)), title(stage)),
                  fmt::format("let one of them write a stream of another name ({} stands at {})", title(at(*later)), at(*later).place), stage.place);
    if (later)
      throw Error(Code::configuration, fmt::format("{} reads '{}', which only {} writes, further down", title(stage), name, title(at(*later))),
                  "stages run in the order of the file: move that one up", stage.place);
    if (name.ends_with(".frames") && stage.kind == abi::Kind::decoder)
      throw Error(Code::configuration, fmt::format("{} has no frames to decode: no stage chooses them for '{}'{}", title(stage), name.substr(0, name.size() - 7), mode),
                  fmt::format("put a frames.* stage before it, e.g. [[stage]] plugin = \"frames.dense\"{}",
                              name == "clip.frames" ? "" : fmt::format(", on = [\"{}\"]", name.substr(0, name.size() - 7))),
                  stage.place);
    std::vector<std::string> known = source_.value_or(std::vector<std::string>{});
    for (const auto& [other, stream] : streams_)
      if (!stream.writers.empty() && !stream.gone) known.push_back(other);
    const auto near = nearest(name, known);
    throw Error(Code::configuration, fmt::format("{} reads the stream '{}', which nobody writes{}", title(stage), name, mode),
                near.empty() ? "streams that exist at this point: " + (known.empty() ? std::string("none") : join(known, ", ")) : "did you mean '" + near.front() + "'?",
                stage.place);
  }

  [[nodiscard]] std::optional<int> later_writer(int i, const std::string& name) const {
    for (int j = i + 1; j < static_cast<int>(stages_.size()); ++j)
      if ((contains(at(j).writes, name)) && (!training_ || at(j).runs_in(*training_))) return j;
    return std::nullopt;
  }
  // Whether `later` reads, directly or through stages between, what stage `i` writes.
  [[nodiscard]] bool depends(int later, int i) const {
    std::set<std::string> fed(at(i).writes.begin(), at(i).writes.end());
    for (int j = i + 1; j <= later; ++j) {
      const bool takes = std::any_of(at(j).reads.begin(), at(j).reads.end(), [&](const auto& name) { return fed.contains(name); });
      if (takes && j == later) return true;
      if (takes) fed.insert(at(j).writes.begin(), at(j).writes.end());
    }
    return false;
  }
  [[nodiscard]] bool reaches(int from, int to) const {
    std::set<int> found{to};  // edges lead to larger numbers: one sweep down is enough
    for (int i = to; i > from; --i)
      if (found.contains(i)) found.insert(before_[index(i)].begin(), before_[index(i)].end());
    return found.contains(from);
  }

  [[nodiscard]] static std::size_t index(int i) { return static_cast<std::size_t>(i); }
  [[nodiscard]] const StageShape& at(int i) const { return stages_[index(i)]; }

  const std::vector<StageShape>& stages_;
  const std::optional<std::vector<std::string>>& source_;
  std::optional<bool> training_;
  std::map<std::string, Stream> streams_;
  std::set<std::string> from_source_;
  std::vector<std::set<int>> before_;
};

}  // namespace

StageShape shape_of(const StageConfig& config, const abi::Manifest& manifest) {
  StageShape shape;
  shape.name = config.name.empty() ? config.plugin.plugin : config.name;
  shape.place = config.plugin.place.text();
  shape.only = config.only;
  shape.kind = static_cast<abi::Kind>(manifest.kind);
  shape.flags = manifest.flags;
  shape.on = config.on;
  shape.reads = expand(manifest.reads, config.on);
  shape.writes = expand(manifest.writes, config.on);
  if (shape.kind == abi::Kind::decoder) {
    shape.reads = expand("*,*.frames", config.on);
    shape.writes = expand("*,*.times", config.on);
    shape.consumes = expand("*.frames", config.on);
  } else if (shape.kind == abi::Kind::frames) {
    shape.reads = config.on;
    shape.writes = expand("*.frames", config.on);
  } else if (shape.kind != abi::Kind::stage) {
    throw Error(Code::configuration, fmt::format("{} is no stage", in_quotes(config.plugin.plugin)),
                "a [[stage]] is a frames.*, decode.* or another plugin that works on samples", shape.place);
  }
  return shape;
}

bool Wiring::ordered(int a, int b) const {
  std::set<int> found{b};
  for (int i = b; i > a; --i)
    if (found.contains(i)) found.insert(before[static_cast<std::size_t>(i)].begin(), before[static_cast<std::size_t>(i)].end());
  return a != b && found.contains(a);
}

Wiring wire(std::vector<StageShape> stages, const std::optional<std::vector<std::string>>& source) {
  Wiring wiring;
  wiring.stages = std::move(stages);
  const auto n = wiring.stages.size();
  for (const bool training : {true, false}) {
    Pass pass(wiring.stages, source, training);
    pass.run();
    wiring.from_source[training].assign(pass.from_source().begin(), pass.from_source().end());
  }
  Pass all(wiring.stages, source, std::nullopt);
  all.run();

  // An edge that another path implies costs a message a sample and says nothing. Stages are numbered in topological order.
  std::vector<std::vector<bool>> reach(n, std::vector<bool>(n, false));
  wiring.before.resize(n);
  wiring.after.resize(n);
  for (std::size_t i = 0; i < n; ++i) {
    const auto& direct = all.before()[i];
    for (auto it = direct.rbegin(); it != direct.rend(); ++it) {
      const auto from = static_cast<std::size_t>(*it);
      if (!reach[i][from]) {
        wiring.before[i].insert(wiring.before[i].begin(), *it);
        wiring.after[from].push_back(static_cast<int>(i));
      }
      reach[i][from] = true;
      for (std::size_t k = 0; k < n; ++k)
        if (reach[from][k]) reach[i][k] = true;
    }
  }
  return wiring;
}

void check_streams(const Pipeline& pipeline, const Registry& registry) {
  const auto manifest_of = [&](const PluginConfig& config) -> const abi::Manifest& {
    const auto found = registry.find(config.plugin);
    if (!found.manifest) throw Error(Code::configuration, "unknown plugin " + in_quotes(config.plugin), "sluice plugins lists those that there are", config.place.text());
    return *found.manifest;
  };
  std::vector<StageShape> shapes;
  for (const auto& stage : pipeline.stages) shapes.push_back(shape_of(stage, manifest_of(stage.plugin)));
  // A source whose manifest names no streams decides when it lists; then the dataset checks once more.
  std::optional<std::vector<std::string>> source;
  const std::string_view declared = manifest_of(pipeline.data).writes;
  if (declared != "*") source = expand(declared, {"clip"});
  static_cast<void>(wire(std::move(shapes), source));
}

}  // namespace sluice
