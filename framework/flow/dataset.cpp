// Opens a dataset: listing, streams, headers, pieces.
#include "framework/flow/dataset.hpp"

#include <algorithm>
#include <cstring>
#include <limits>
#include <map>
#include <mutex>
#include <set>
#include <tuple>
#include <unordered_map>
#include <utility>

#include <fmt/format.h>

#include <sluice/boundary.hpp>
#include <sluice/rng.hpp>

#include "framework/base/strings.hpp"
#include "framework/flow/dataset_impl.hpp"
#include "framework/flow/header_cache.hpp"

namespace sluice {
namespace {

// What a plugin may learn of its surroundings, in the shape of the boundary. Points into the strings it was made of.
class Surroundings {
 public:
  Surroundings(const std::vector<std::string>& classes, const Dataset::Options& options) : cache_dir_(options.cache_dir.string()) {
    for (const auto& name : classes) texts_.push_back(detail::text(name));
    raw_ = {sizeof(abi::Context), static_cast<std::uint32_t>(texts_.size()), texts_.data(), options.seed, static_cast<std::uint32_t>(options.workers),
            detail::text(cache_dir_)};
  }
  Surroundings(const Surroundings&) = delete;
  Surroundings& operator=(const Surroundings&) = delete;
  [[nodiscard]] const abi::Context& raw() const { return raw_; }

 private:
  std::string cache_dir_;
  std::vector<abi::Text> texts_;
  abi::Context raw_{};
};

// Takes what the source lists. Nothing of it is trusted: no exception may pass back through the boundary.
struct Collector {
  Dataset::Impl* dataset;
  const Dataset::Options* options;

  static Collector& of(void* host) { return *static_cast<Collector*>(host); }
  static int classes(void* host, const abi::Text* names, std::uint64_t count, abi::Failure* failure) {
    return detail::guarded(failure, [&] {
      auto& known = of(host).dataset->classes;
      known.clear();
      for (std::uint64_t i = 0; i < count; ++i) known.push_back(detail::text_of(names[i]));
    });
  }
  static int add(void* host, const abi::Entry* entry, abi::Failure* failure) {
    return detail::guarded(failure, [&] {
      auto& dataset = *of(host).dataset;
      if (entry->split != Split::train && entry->split != Split::val) throw Error(Code::plugin, "an entry belongs to train or to val");
      if (entry->label < -1 || entry->label > std::numeric_limits<std::int32_t>::max())
        throw Error(Code::data, fmt::format("{} has the label {}, which is no class number", in_quotes(detail::text_of(entry->origin)), entry->label));
      dataset.rows[static_cast<std::size_t>(entry->split)].add(dataset.texts, *entry);
      if (entry->label >= 0) dataset.labelled = true;
    });
  }
  static int reject(void* host, abi::Text origin, abi::Text what, abi::Failure* failure) {
    return detail::guarded(failure, [&] { of(host).dataset->failed.push_back({detail::text_of(origin), detail::text_of(what), -1}); });
  }
  static void progress(void* host, abi::Text what, double fraction) {
    detail::guarded(nullptr, [&] {
      if (of(host).options->progress) of(host).options->progress(detail::text_of(what), fraction);
    });
  }
};

void list(const Recipe& source, Dataset::Impl& dataset, const Dataset::Options& options) {
  const Surroundings surroundings({}, options);
  Collector collector{&dataset, &options};
  const abi::Listing listing{sizeof(abi::Listing), &collector, &Collector::classes, &Collector::add, &Collector::reject, &Collector::progress, surroundings.raw()};
  auto failure = detail::no_failure();
  const int status = source.descriptor().source->list(source.instance(), &listing, &failure);
  throw_failure(status, failure, source.name());
  dataset.texts.finish();
}

void prepare(const Stages& stages, const std::vector<std::string>& classes, const Dataset::Options& options) {
  const Surroundings surroundings(classes, options);
  const auto one = [&](const Stages::Item& item, const Recipe& recipe) {
    auto failure = detail::no_failure();
    const int status = recipe.descriptor().prepare(recipe.instance(), &surroundings.raw(), &failure);
    throw_failure(status, failure, item.config.plugin.place.text());
  };
  for (const auto& item : stages.items) {
    one(item, item.recipe);
    for (const auto& recipe : item.extra) one(item, recipe);
  }
}

// Reads headers and turns pieces into frames; drops the rows that cannot be used.
class Opening {
 public:
  Opening(Dataset::Impl& dataset, const Stages& stages, const Dataset::Options& options)
      : dataset_(dataset), stages_(stages), options_(options), cache_(options.cache_dir.empty() ? std::filesystem::path() : options.cache_dir / "headers.bin") {}

  void run() {
    for (const auto split : {Split::train, Split::val}) {
      check_rows(split);
      add_columns(split);
    }
    read_headers();
    for (const auto split : {Split::train, Split::val}) resolve(split);
    resolve_with_times();
    for (const auto split : {Split::train, Split::val}) drop_unusable(split);
  }

 private:
  struct Waiting {  // a row whose pieces or frames follow from the times of its file
    std::uint32_t file;
    std::uint8_t split;
    std::uint16_t column;
    std::uint32_t row;
    friend bool operator<(const Waiting& a, const Waiting& b) { return std::tie(a.file, a.split, a.row) < std::tie(b.file, b.split, b.row); }
  };

  static std::size_t index(Split split) { return static_cast<std::size_t>(split); }
  // The first reason stays; an empty one is none.
  void fails(Split split, std::size_t row, std::string why) {
    if (!why.empty()) why_[index(split)].emplace(row, std::move(why));
  }
  [[nodiscard]] bool usable(Split split, std::size_t row) const { return !why_[index(split)].contains(row); }
  Rows& rows(Split split) { return dataset_.rows[index(split)]; }

  void check_rows(Split split) {
    const auto& required = dataset_.wiring.from_source[split == Split::train];
    auto& all = rows(split);
    for (std::size_t row = 0; row < all.size(); ++row) {
      if (!dataset_.classes.empty() && all.labels[row] >= static_cast<std::int64_t>(dataset_.classes.size()))
        fails(split, row, fmt::format("its label is {}, and the classes are 0 to {}", all.labels[row], dataset_.classes.size() - 1));
      for (const auto& name : required) {
        if (name == "label") continue;
        const int column = all.stream(name);
        if (column < 0 || all.texts[static_cast<std::size_t>(column)][row] == no_text) fails(split, row, fmt::format("it has no {}", in_quotes(name)));
      }
    }
  }

  void add_columns(Split split) {
    auto& all = rows(split);
    const bool training = split == Split::train;
    std::int64_t views = 0;
    for (int stage = 0; stage < static_cast<int>(stages_.items.size()); ++stage) {
      const auto& shape = dataset_.wiring.stages[static_cast<std::size_t>(stage)];
      if (shape.kind != abi::Kind::decoder || !shape.runs_in(training)) continue;
      for (const auto& stream : shape.on) {
        VideoColumn column;
        column.stream = stream;
        column.decoder = stage;
        for (int before = 0; before < stage; ++before) {
          const auto& sampler = dataset_.wiring.stages[static_cast<std::size_t>(before)];
          if (sampler.at_admission() && sampler.runs_in(training) && std::find(sampler.on.begin(), sampler.on.end(), stream) != sampler.on.end()) column.sampler = before;
        }
        const auto& recipe = stages_.items[static_cast<std::size_t>(column.sampler)].recipe;
        const auto own = recipe.descriptor().frames->views(recipe.instance(), training ? 1 : 0);
        views = std::max(views, own > 0 ? own : options_.eval_clips);
        add_files(all, column, split);
        all.videos.push_back(std::move(column));
      }
    }
    dataset_.views[index(split)] = training || views < 1 ? 1 : views;
  }

  void add_files(const Rows& all, VideoColumn& column, Split split) {
    auto& known = by_text_[column.decoder];
    known.resize(dataset_.texts.size(), no_text);
    const int texts = all.stream(column.stream);
    column.files.assign(all.size(), no_text);
    for (std::size_t row = 0; row < all.size(); ++row) {
      if (!usable(split, row)) continue;
      const auto text = all.texts[static_cast<std::size_t>(texts)][row];
      if (known[text] == no_text) {
        known[text] = static_cast<std::uint32_t>(dataset_.files.size());
        dataset_.files.push_back({text, 0, 0, 0, 0, 0, false});
        decoders_.push_back(column.decoder);
      }
      column.files[row] = known[text];
    }
  }

  void read_headers() {
    const auto job = [&](std::size_t i) {
      auto& file = dataset_.files[i];
      const auto path = dataset_.texts.get(file.path);
      const auto& decoder = stages_.items[static_cast<std::size_t>(decoders_[i])].recipe;
      const auto look = look_at(path);
      if (!look.problem.empty()) return file_fails(i, look.problem);
      auto header = cache_.find(decoder.name(), path, look.state);
      if (!header) {
        auto read = read_header(decoder, path);
        if (auto* why = std::get_if<std::string>(&read)) return file_fails(i, std::move(*why));
        header = std::get<abi::Header>(read);
        cache_.put(decoder.name(), path, look.state, *header);
      }
      file.frames = static_cast<std::uint32_t>(header->frames);
      file.width = static_cast<std::int32_t>(header->width);
      file.height = static_cast<std::int32_t>(header->height);
      file.rate = header->rate;
      file.variable_rate = header->variable_rate != 0;
      file.fingerprint = look.state.fingerprint();
    };
    in_parallel(dataset_.files.size(), options_.workers, job, report("reading headers"));
    cache_.save();
  }

  void file_fails(std::size_t file, std::string why) {
    const std::lock_guard lock(mutex_);
    bad_files_[static_cast<std::uint32_t>(file)] = std::move(why);
  }

  void resolve(Split split) {
    auto& all = rows(split);
    for (std::size_t c = 0; c < all.videos.size(); ++c) {
      auto& column = all.videos[c];
      if (!all.bounds.empty()) column.first.assign(all.size(), 0), column.frames.assign(all.size(), 0);
      for (std::size_t row = 0; row < all.size(); ++row) {
        if (!usable(split, row)) continue;
        if (const auto bad = bad_files_.find(column.files[row]); bad != bad_files_.end()) {
          fails(split, row, bad->second);
          continue;
        }
        const auto& file = dataset_.files[column.files[row]];
        const bool times_for_piece = file.variable_rate && !all.bounds.empty() && all.bounds[row].unit == Unit::seconds;
        if (times_for_piece || dataset_.needs_times(column, file, stages_)) {
          if (column.chosen.empty()) column.chosen.assign(all.size(), 0);
          waiting_.push_back({column.files[row], static_cast<std::uint8_t>(split), static_cast<std::uint16_t>(c), static_cast<std::uint32_t>(row)});
        } else {
          fails(split, row, set_range(all, column, row, {}));
        }
      }
    }
  }

  // Empty, or why the piece cannot be had.
  static std::string set_range(const Rows& all, VideoColumn& column, std::size_t row, const std::vector<double>& times, const VideoFile& file) {
    if (all.bounds.empty()) return {};
    const auto& bounds = all.bounds[row];
    auto range = frame_range(bounds.unit, bounds.start, bounds.end, file.frames, file.rate, times);
    if (auto* why = std::get_if<std::string>(&range)) return std::move(*why);
    column.first[row] = static_cast<std::uint32_t>(std::get<FrameRange>(range).first);
    column.frames[row] = static_cast<std::uint32_t>(std::get<FrameRange>(range).frames);
    return {};
  }
  std::string set_range(const Rows& all, VideoColumn& column, std::size_t row, const std::vector<double>& times) {
    return set_range(all, column, row, times, dataset_.files[column.files[row]]);
  }

  void resolve_with_times() {
    std::sort(waiting_.begin(), waiting_.end());
    std::vector<std::size_t> groups;  // where each file begins
    for (std::size_t i = 0; i < waiting_.size(); ++i)
      if (i == 0 || waiting_[i].file != waiting_[i - 1].file) groups.push_back(i);
    const auto job = [&](std::size_t group) {
      const auto begin = groups[group], end = group + 1 < groups.size() ? groups[group + 1] : waiting_.size();
      const auto number = waiting_[begin].file;
      const auto& decoder = stages_.items[static_cast<std::size_t>(decoders_[number])].recipe;
      const auto read = read_times(decoder, dataset_.texts.get(dataset_.files[number].path));
      for (auto i = begin; i < end; ++i) {
        const auto split = static_cast<Split>(waiting_[i].split);
        const auto* bad = std::get_if<std::string>(&read);
        auto why = bad ? *bad : choose_with_times(split, rows(split).videos[waiting_[i].column], waiting_[i].row, std::get<0>(read));
        const std::lock_guard lock(mutex_);
        fails(split, waiting_[i].row, std::move(why));
      }
    };
    in_parallel(groups.size(), options_.workers, job, groups.empty() ? nullptr : report("reading frame times"));
  }

  std::string choose_with_times(Split split, VideoColumn& column, std::size_t row, const std::vector<double>& times) {
    const auto& file = dataset_.files[column.files[row]];
    if (times.size() != file.frames) return fmt::format("its header says {} frames, and {} have a time", file.frames, times.size());
    if (auto why = set_range(rows(split), column, row, times); !why.empty()) return why;
    std::vector<double> piece;
    const auto& sampler = stages_.items[static_cast<std::size_t>(column.sampler)].recipe;
    const auto count = count_frames(sampler, dataset_.video(column, row, split, 0, &times, piece));
    if (const auto* why = std::get_if<std::string>(&count)) return *why;
    column.chosen[row] = static_cast<std::uint32_t>(std::get<std::int64_t>(count));
    return {};
  }

  void drop_unusable(Split split) {
    auto& all = rows(split);
    std::vector<bool> kept(all.size(), true);
    for (auto [row, why] : why_[index(split)]) {  // in order: a map
      kept[row] = false;
      std::string file;
      for (const auto& video : all.videos)
        if (video.files[row] != no_text && (bad_files_.contains(video.files[row]) || all.videos.size() == 1)) file = dataset_.texts.get(dataset_.files[video.files[row]].path);
      const auto where = dataset_.where(all, row);
      if (!file.empty() && why.starts_with(file + ": ")) why.erase(0, file.size() + 2);
      dataset_.failed.push_back({where, file.empty() || where.find(file) != std::string::npos ? why : in_quotes(file) + ": " + why, -1});
    }
    if (!why_[index(split)].empty()) all.keep(kept);
    std::vector<Rows::Bounds>().swap(all.bounds);
  }

  std::function<void(double)> report(const std::string& what) {
    if (!options_.progress) return nullptr;
    return [this, what](double fraction) { options_.progress(what, fraction); };
  }

  Dataset::Impl& dataset_;
  const Stages& stages_;
  const Dataset::Options& options_;
  HeaderCache cache_;
  std::map<std::size_t, std::string> why_[2];  // rows that cannot be used, by split
  std::unordered_map<int, std::vector<std::uint32_t>> by_text_;  // decoder -> text -> file
  std::vector<int> decoders_;                                    // per file
  std::mutex mutex_;
  std::unordered_map<std::uint32_t, std::string> bad_files_;
  std::vector<Waiting> waiting_;
};

}  // namespace

Stages Stages::load(Registry& registry, const Pipeline& pipeline, bool training) {
  Stages stages;
  for (const auto& config : pipeline.stages) {
    if (!training && config.only == "train") continue;
    Item item{config, Recipe(registry, config.plugin)};
    const auto shape = shape_of(config, item.recipe.manifest());
    if (shape.kind == abi::Kind::stage && !shape.parallel() && !shape.ordered())
      for (std::int64_t i = 1; i < pipeline.budget.workers.value; ++i) item.extra.emplace_back(registry, config.plugin);
    stages.items.push_back(std::move(item));
  }
  return stages;
}

std::string Dataset::Impl::where(const Rows& rows, std::size_t row) const {
  if (auto origin = texts.get(rows.origins[row]); !origin.empty()) return origin;
  for (const auto& column : rows.texts)
    if (column[row] != no_text) return texts.get(column[row]);
  return {};
}

FrameRange Dataset::Impl::range(const VideoColumn& column, std::size_t row) const {
  if (column.first.empty()) return {0, files[column.files[row]].frames};
  return {column.first[row], column.frames[row]};
}

abi::Video Dataset::Impl::video(const VideoColumn& column, std::size_t row, Split split, std::int64_t view, const std::vector<double>* times,
                                std::vector<double>& piece) const {
  const auto& file = files[column.files[row]];
  const auto part = range(column, row);
  if (times) {
    piece.assign(times->begin() + part.first, times->begin() + part.first + part.frames);
    const double start = piece.front();
    for (auto& time : piece) time -= start;
  }
  return {sizeof(abi::Video), split == Split::train ? 1u : 0u, part.frames, file.rate, times ? piece.data() : nullptr, view, views_of(split)};
}

bool Dataset::Impl::needs_times(const VideoColumn& column, const VideoFile& file, const Stages& stages) const {
  return file.variable_rate || stages.items[static_cast<std::size_t>(column.sampler)].recipe.descriptor().frames->wants_times != 0;
}

Dataset::Dataset(Recipe source, const Stages& stages, Options options) : impl_(std::make_unique<Impl>()) {
  auto& dataset = *impl_;
  list(source, dataset, options);
  if (dataset.rows[0].size() + dataset.rows[1].size() == 0)
    throw Error(Code::data, dataset.failed.empty() ? "the source lists no samples" : fmt::format("the source lists no sample that can be used; {}: {}", dataset.failed[0].where, dataset.failed[0].why),
                "check the paths and the split in [data]", source.name());
  std::set<std::string> given;
  for (const auto& rows : dataset.rows) given.insert(rows.streams.begin(), rows.streams.end());
  if (dataset.labelled) given.insert("label");
  std::vector<StageShape> shapes;
  for (const auto& item : stages.items) shapes.push_back(shape_of(item.config, item.recipe.manifest()));
  dataset.wiring = wire(std::move(shapes), std::vector<std::string>(given.begin(), given.end()));
  prepare(stages, dataset.classes, options);
  Opening(dataset, stages, options).run();
}
Dataset::~Dataset() = default;
Dataset::Dataset(Dataset&&) noexcept = default;

const std::vector<std::string>& Dataset::classes() const { return impl_->classes; }
std::int64_t Dataset::samples(Split split) const { return impl_->samples(split); }
std::int64_t Dataset::videos(Split split) const { return static_cast<std::int64_t>(impl_->of(split).size()); }
std::int64_t Dataset::views(Split split) const { return impl_->views_of(split); }
const std::vector<Failed>& Dataset::failed() const { return impl_->failed; }

std::vector<std::pair<std::string, std::string>> Dataset::texts(Split split, std::int64_t sample) const {
  const auto& rows = impl_->of(split);
  const auto row = impl_->row(split, sample);
  std::vector<std::pair<std::string, std::string>> all;
  for (std::size_t i = 0; i < rows.streams.size(); ++i)
    if (rows.texts[i][row] != no_text) all.emplace_back(rows.streams[i], impl_->texts.get(rows.texts[i][row]));
  if (const auto number = rows.labels[row]; number >= 0)
    all.emplace_back("label", static_cast<std::size_t>(number) < impl_->classes.size() ? impl_->classes[static_cast<std::size_t>(number)] : std::to_string(number));
  if (auto origin = impl_->texts.get(rows.origins[row]); !origin.empty()) all.emplace_back("origin", std::move(origin));
  return all;
}

std::uint64_t Dataset::digest(Split split) const {
  std::uint64_t hash = 0;
  const auto add = [&](std::uint64_t value) { hash = mix_bits(hash ^ value); };
  const auto add_text = [&](const std::string& text) {
    add(text.size());
    for (std::size_t i = 0; i < text.size(); i += 8) {
      std::uint64_t word = 0;
      std::memcpy(&word, text.data() + i, std::min<std::size_t>(8, text.size() - i));
      add(word);
    }
  };
  const auto& rows = impl_->of(split);
  for (std::size_t row = 0; row < rows.size(); ++row) {
    add(static_cast<std::uint64_t>(rows.labels[row]));
    for (const auto& column : rows.texts) column[row] == no_text ? add(1) : add_text(impl_->texts.get(column[row]));
    for (const auto& video : rows.videos) {
      if (video.files[row] == no_text) continue;
      const auto range = impl_->range(video, row);
      add(static_cast<std::uint64_t>(range.first));
      add(static_cast<std::uint64_t>(range.frames));
    }
  }
  return hash;
}

std::int64_t Dataset::label(Split split, std::int64_t sample) const { return impl_->of(split).labels[impl_->row(split, sample)]; }

}  // namespace sluice
