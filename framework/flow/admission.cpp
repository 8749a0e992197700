// The order of everything is fixed here: by the phases, the shuffle and the sequence number.
#include "framework/flow/admission.hpp"

#include <algorithm>
#include <cstring>

#include <fmt/format.h>

#include <sluice/sample.hpp>

#include "framework/base/bytes.hpp"
#include "framework/flow/order.hpp"
#include "framework/flow/patience.hpp"
#include "framework/memory/invariant.hpp"

namespace sluice {
namespace {

constexpr std::uint64_t times_kept = std::uint64_t{4} << 20;

}  // namespace

Admission::Admission(const Dataset::Impl& dataset, const Stages& stages, Ledger& ledger, FramePool& pool, const Feed::Options& options, const Limits& limits,
                     std::function<std::optional<Phase>(std::uint64_t)> phase, Exchange& exchange, StageGraph& graph, ActivityBoard& board)
    : dataset_(dataset), stages_(stages), ledger_(ledger), pool_(pool), options_(options), limits_(limits), phase_(std::move(phase)), exchange_(exchange),
      graph_(graph), board_(board), planner_(dataset, stages), times_(times_kept) {
  for (const auto& stage : dataset.wiring.stages) keys_.push_back(stage_key(options.seed, stage.name));
}

void Admission::run(const std::stop_token& token) {
  std::uint64_t number = 0;
  try {
    for (;; ++number) {
      const auto phase = phase_(number);
      if (!phase) break;
      if (!run_phase(number, *phase, token)) return;
    }
    admit_mark({number, 0, false, false, true}, nullptr, token);
  } catch (const Error& error) {  // in order: the batches before it are delivered
    admit_mark({number, 0, false, false, false}, &error, token);
  } catch (const std::exception& error) {
    const Error wrapped(Code::plugin, error.what(), "", "admission");
    admit_mark({number, 0, false, false, false}, &wrapped, token);
  }
}

bool Admission::run_phase(std::uint64_t number, const Phase& phase, const std::stop_token& token) {
  const bool training = phase.kind == Phase::Kind::train;
  const auto split = training ? Split::train : Split::val;
  const auto samples = dataset_.samples(split);
  const auto size = training ? options_.batch_size : options_.eval_batch_size;
  const auto batches = training && options_.drop_last ? samples / size : (samples + size - 1) / size;
  if (phase.first_batch >= batches) return admit_mark({number, phase.first_batch, true, true, false}, nullptr, token);

  const Shuffle shuffle(samples, options_.seed, phase.epoch);
  for (std::int64_t batch = std::max<std::int64_t>(0, phase.first_batch); batch < batches; ++batch) {
    const auto last = std::min((batch + 1) * size, samples) - 1;
    for (auto at = batch * size; at <= last; ++at) {
      const auto index = training && options_.shuffle ? shuffle(at) : at;
      const Position position{number, batch, at == last, at == last && batch + 1 == batches, false};
      const auto rank = static_cast<std::uint64_t>(at);
      if (!(options_.chunking.on() ? admit_in_chunks(phase, position, split, index, rank, token) : admit(phase, position, split, index, rank, token))) return false;
    }
    if (!options_.chunking.on()) ++batches_;
  }
  return true;
}

void Admission::send(SampleRecord& record, const Position& position) {
  record.sequence = sequence_++;
  record.phase = position.phase;
  record.batch = position.batch;
  record.ends_batch = position.ends_batch;
  record.ends_phase = position.ends_phase;
  record.ends_run = position.ends_run;
  record.chunk = position.chunk;
  if (position.chunk) record.dropped = clip_.dropped;
  graph_.admit(record);
}

bool Admission::admit_mark(const Position& position, const Error* error, const std::stop_token& token) {
  auto* record = exchange_.take(batches_, true, token);
  if (!record) return false;
  if (position.ends_batch) ++batches_;
  if (error) {
    record->refused = error->code() == Code::data || error->code() == Code::io ? Error(Code::plugin, error->message(), error->hint(), error->where()) : *error;
  }
  send(*record, position);
  return true;
}

bool Admission::admit(const Phase& phase, const Position& position, Split split, std::int64_t index, std::uint64_t number, const std::stop_token& token) {
  auto* record = exchange_.take(batches_, false, token);
  if (!record) return false;
  describe(*record, phase, split, index, number);
  try {
    count(*record);
    measure(*record);
    if (!lease(*record, token)) {
      exchange_.give_back(*record);
      return false;
    }
    fill(*record);
  } catch (const Error& error) {
    record->drop();
    record->refused = error.at(sample_name(dataset_, split, index));
  }
  send(*record, position);
  return true;
}

// One chunk after the other, each a sample of its own to all that comes behind: same key, other frames. The one at which the clip fails
// is the last of it.
bool Admission::admit_in_chunks(const Phase& phase, const Position& position, Split split, std::int64_t index, std::uint64_t number, const std::stop_token& token) {
  const auto& chunking = options_.chunking;
  clip_ = {};
  clip_.dropped = std::make_shared<std::atomic<bool>>(false);
  for (const auto pass : {ChunkPass::features, ChunkPass::gradients})
    for (std::int64_t i = 0; i == 0 || i < chunks_of(clip_.frames, chunking); ++i) {
      Position here = position;
      here.chunk = clip_.frames > 0 ? chunk_at(clip_.frames, chunking, i) : ChunkPlace{};
      here.chunk->pass = pass;
      const bool over = clip_.dropped->load(std::memory_order_relaxed);
      auto* record = exchange_.take(batches_, over, token);
      if (!record) return false;
      describe(*record, phase, split, index, number);
      bool failed = over;
      try {
        if (!over) {
          if (clip_.frames == 0) {
            open(*record);
            here.chunk = chunk_at(clip_.frames, chunking, i);
          }
          for (auto& video : shape_.videos) video.count = here.chunk->last - here.chunk->first;
          record->chunk = here.chunk;
          measure(*record);
          if (!lease(*record, token)) {
            exchange_.give_back(*record);
            return false;
          }
          fill(*record);
        }
      } catch (const Error& error) {
        record->drop();
        record->refused = error.at(sample_name(dataset_, split, index));
        failed = true;
      }
      here.chunk->ends_clip = failed || (here.chunk->ends_pass && (pass == ChunkPass::gradients || split == Split::val));
      here.chunk->ends_batch = here.chunk->ends_clip && position.ends_batch;
      here.ends_phase = here.chunk->ends_clip && position.ends_phase;
      here.ends_batch = true;  // it is handed over by itself
      send(*record, here);
      ++batches_;
      if (here.chunk->ends_clip) return true;
    }
  return true;
}

void Admission::describe(SampleRecord& record, const Phase& phase, Split split, std::int64_t index, std::uint64_t number) const {
  record.split = split;
  record.index = index;
  record.number = number;
  record.epoch = phase.epoch;
  record.key = sample_key(options_.seed, phase.epoch, index);
}

// The frames of a clip are chosen once for all of its chunks.
void Admission::open(const SampleRecord& record) {
  count(record);
  const auto frames = shape_.videos.empty() ? 0 : shape_.videos.front().count;
  for (const auto& video : shape_.videos)
    if (video.count != frames) throw Error(Code::data, fmt::format("its streams have {} and {} frames: chunks need as many of each", frames, video.count));
  for (std::size_t c = 0; c < shape_.videos.size(); ++c) clip_.numbers.push_back(choose(record, c));
  clip_.frames = frames;
}

// What the sample will be: its frames are counted, its plan found.
void Admission::count(const SampleRecord& record) {
  const auto row = dataset_.row(record.split, record.index);
  const auto view = record.index % dataset_.views_of(record.split);
  const auto& columns = dataset_.of(record.split).videos;
  shape_ = planner_.shape_of_row(record.split, row);
  std::vector<double> piece;
  for (std::size_t c = 0; c < columns.size(); ++c) {
    const auto& column = columns[c];
    const auto& sampler = stages_.items[static_cast<std::size_t>(column.sampler)].recipe;
    const ActivityBoard::Scope busy(board_, ~std::size_t{0}, column.sampler, record.training(), record.index);
    const auto count = count_frames(sampler, dataset_.video(column, row, record.split, view, times_of(column, row), piece));
    if (const auto* why = std::get_if<std::string>(&count)) throw Error(Code::data, *why);
    shape_.videos[c].count = std::get<std::int64_t>(count);
  }
}

void Admission::measure(SampleRecord& record) {
  record.plan = planner_.plan(shape_);
  if (!record.plan->unusable.empty()) throw Error(Code::data, record.plan->unusable);
  const auto split = static_cast<std::size_t>(record.split);
  if (record.plan->bound > limits_.largest[split])
    throw Error(Code::data, fmt::format("too large: it needs {} at once, and {} are there beside the rest of a batch", format_bytes(record.plan->bound), format_bytes(limits_.largest[split])),
                fmt::format("with {} for the samples it would fit", format_bytes(limits_.batch_needs[split] + record.plan->bound)));
}

bool Admission::lease(SampleRecord& record, const std::stop_token& token) {
  const auto bytes = record.plan->bound;
  auto lease = ledger_.try_acquire(bytes);
  if (!lease) {
    {
      const std::lock_guard lock(mutex_);
      wanted_ = {record.index, bytes, std::chrono::steady_clock::now()};
    }
    lease = ledger_.acquire(bytes, token);
    const std::lock_guard lock(mutex_);
    wanted_.reset();
  }
  if (!lease) return false;
  record.lease = std::move(*lease);
  record.tally = std::make_shared<Tally>(stages_.items.size() + 1);
  return true;
}

// Puts the streams in that a sample starts with.
void Admission::fill(SampleRecord& record) {
  const auto& rows = dataset_.of(record.split);
  const auto row = dataset_.row(record.split, record.index);
  const auto& streams = planner_.streams();
  for (std::size_t i = 0; i < rows.streams.size(); ++i) {
    if (rows.texts[i][row] == no_text) continue;
    auto& stream = record.streams_of[static_cast<std::size_t>(streams.number(rows.streams[i]))];
    stream.text = dataset_.texts.get(rows.texts[i][row]);
    stream.state = Stream::State::text;
  }
  const std::int64_t label = rows.labels[row];
  if (dataset_.labelled) put_numbers(record, streams.number("label"), {&label, 1}, "");

  for (std::size_t c = 0; c < rows.videos.size(); ++c) {
    const int stream = streams.number(rows.videos[c].stream + ".frames");
    if (record.chunk) put_numbers(record, stream, std::span(clip_.numbers[c]).subspan(static_cast<std::size_t>(record.chunk->first), static_cast<std::size_t>(record.chunk->last - record.chunk->first)), "T");
    else put_numbers(record, stream, choose(record, c), "T");
  }
}

std::vector<std::int64_t> Admission::choose(const SampleRecord& record, std::size_t c) {
  const auto row = dataset_.row(record.split, record.index);
  const auto& column = dataset_.of(record.split).videos[c];
  std::vector<double> piece;
  const auto stage = static_cast<std::size_t>(column.sampler);
  const auto& on = dataset_.wiring.stages[stage].on;
  const auto position = static_cast<std::uint32_t>(std::find(on.begin(), on.end(), column.stream) - on.begin());
  const auto key = random_key(keys_[stage], record.index, record.epoch, stages_.items[stage].config.independent ? position + 1 : 0);
  const auto video = dataset_.video(column, row, record.split, record.index % dataset_.views_of(record.split), times_of(column, row), piece);
  const ActivityBoard::Scope busy(board_, ~std::size_t{0}, column.sampler, record.training(), record.index);
  auto chosen = choose_frames(stages_.items[stage].recipe, video, key, dataset_.range(column, row).first, shape_.videos[c].count);
  if (const auto* why = std::get_if<std::string>(&chosen)) throw Error(Code::data, *why);
  return std::get<0>(std::move(chosen));
}

void Admission::put_numbers(SampleRecord& record, int stream, std::span<const std::int64_t> values, std::string_view axes) {
  const auto bytes = values.size() * sizeof(std::int64_t);
  std::optional<abi::Block> block;
  with_patience([&] { block = pool_.allocate(bytes, record.tally, 0, record.lease.bytes()); }, [] { return true; });
  invariant(block.has_value(), "admission put more into a sample than its lease holds");
  auto& to = record.streams_of[static_cast<std::size_t>(stream)];
  to.array = Array::over(*block, DType::i64, {static_cast<std::int64_t>(values.size())}, axes);
  std::memcpy(to.array.data(), values.data(), bytes);
  to.state = Stream::State::array;
}

const std::vector<double>* Admission::times_of(const VideoColumn& column, std::size_t row) {
  const auto number = column.files[row];
  const auto& file = dataset_.files[number];
  if (!dataset_.needs_times(column, file, stages_)) return nullptr;
  held_times_ = times_.get(stages_.items[static_cast<std::size_t>(column.decoder)].recipe, number, dataset_.texts.get(file.path));
  if (held_times_->size() != file.frames) throw Error(Code::data, "the file was replaced after its header had been read", "start again: headers are read anew");
  return held_times_.get();
}

std::optional<Admission::Waiting> Admission::waiting() const {
  const std::lock_guard lock(mutex_);
  if (!wanted_) return std::nullopt;
  return Waiting{fmt::format("bytes for sample {} ({})", wanted_->index, format_bytes(wanted_->bytes)),
                 std::chrono::duration<double>(std::chrono::steady_clock::now() - wanted_->since).count()};
}

}  // namespace sluice
