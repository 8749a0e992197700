// Rules of thumb, each with its reason beside it in the file that is written.
#include "framework/app/recommend.hpp"

#include <algorithm>
#include <cmath>
#include <set>

#include <fmt/format.h>

#include "framework/base/strings.hpp"
#include "framework/config/toml.hpp"

namespace sluice::app {
namespace {

constexpr double longest_clip = 2.0;  // seconds: an action shows in them, and neighbouring frames still overlap

// Sides change at once, so that "left to right" becomes "right to left".
std::string mirrored(const std::string& name) {
  static constexpr std::pair<std::string_view, std::string_view> words[] = {{"left", "right"}, {"right", "left"}, {"Left", "Right"}, {"Right", "Left"}, {"LEFT", "RIGHT"}, {"RIGHT", "LEFT"}};
  std::string out;
  for (std::size_t i = 0; i < name.size();) {
    const auto word = std::find_if(std::begin(words), std::end(words), [&](const auto& pair) { return name.compare(i, pair.first.size(), pair.first) == 0; });
    if (word != std::end(words)) out += word->second, i += word->first.size();
    else out += name[i++];
  }
  return out;
}

bool is_number(const std::string& name) { return !name.empty() && name.find_first_not_of("0123456789") == std::string::npos; }

std::string quoted(const std::string& text) { return toml_text(Value{text, {}}); }

std::string table_text(const std::map<std::string, std::string>& map) {
  Table table;
  for (const auto& [from, to] : map) {
    Member& member = table.emplace_back();
    member.key = from;
    member.value.data = to;
  }
  return toml_text(Value{table, {}});
}

// One line of the file with its reason; the reasons line up where the values are short.
std::string line(const std::string& text, const std::string& reason) { return fmt::format("{:<23} # {}\n", text, reason); }

// "12 classes, 960 videos to train on and 240 to evaluate"
std::string found_text(const Survey& survey) {
  return fmt::format("{} in {}: {} to train on, {} to evaluate", counted(static_cast<std::uint64_t>(survey.train + survey.val), survey.pieces ? "piece" : "video"), survey.classes.size() == 1 ? "1 class" : fmt::format("{} classes", survey.classes.size()),
                     with_commas(static_cast<std::uint64_t>(survey.train)), with_commas(static_cast<std::uint64_t>(survey.val)));
}

std::string frames_stage(const Survey& survey, const Recommendation& choice) {
  std::string text = "[[stage]]\n" + line("plugin = \"frames.dense\"", "frames in a row from a random start; short videos are played again");
  text += fmt::format("frames = {}\n", choice.frames);
  if (choice.rate) {
    text += line(fmt::format("rate = {}", *choice.rate), fmt::format("frames a second: the files have {:.4g} to {:.4g}, and speed must mean the same in all", survey.rate.min, survey.rate.max));
  } else {
    const std::string covers = survey.rate.median > 0 ? fmt::format("; a clip covers {:.2g} s of the {:.2g} s of a typical video", static_cast<double>(choice.frames * choice.stride) / survey.rate.median, survey.seconds.median) : "";
    text += line(fmt::format("stride = {}", choice.stride), "every so many frames" + covers);
  }
  return text;
}

std::string picture_stages(const Survey& survey, const Recommendation& choice) {
  std::string text = fmt::format("\n[[stage]]\nplugin = \"{}\"\n", survey.frame_folders ? "decode.frames" : "decode.ffmpeg");
  if (choice.short_side) text += line(fmt::format("short_side = {}", *choice.short_side), "pixels; scaled while decoding, which is cheaper than a stage of its own");
  if (choice.crop == 0) return text;
  text += fmt::format("\n[[stage]]\nplugin = \"augment.random_crop\"\nonly = \"train\"\nsize = [{0}, {0}]\n", choice.crop);
  return text + fmt::format("\n[[stage]]\nplugin = \"augment.center_crop\"\nonly = \"eval\"\nsize = [{0}, {0}]\n", choice.crop);
}

std::string mirror_stage(const Survey& survey) {
  const Mirror mirror = mirror_of(survey.classes);
  if (!mirror.sure)
    return fmt::format("\n# Mirroring doubles what there is to learn from, where left and right mean the same. It is off: {}.\n"
                       "# [[stage]]\n# plugin = \"augment.hflip\"\n# only = \"train\"\n",
                       mirror.why);
  std::string text = "\n[[stage]]\n" + line("plugin = \"augment.hflip\"", "remove it if left and right matter") + "only = \"train\"\n";
  if (!mirror.labels.empty()) text += line("label_map = " + table_text(mirror.labels), "a mirrored clip shows another class");
  return text;
}

}  // namespace

Mirror mirror_of(const std::vector<Survey::Class>& classes) {
  Mirror mirror;
  std::set<std::string> names;
  for (const auto& one : classes) names.insert(one.name);
  for (const auto& name : names) {
    const auto no = [&](std::string why) { return Mirror{false, std::move(why), {}}; };
    if (first_bad_utf8(name)) return no(fmt::format("the class {} has no name that a file could state", in_quotes(name)));
    if (is_number(name)) return no("the classes are numbers, which do not say");
    const std::string small = lower(name);
    for (const auto* word : {"clockwise", "east", "west"})
      if (small.find(word) != std::string::npos) return no(fmt::format("the class {} sounds like a direction", in_quotes(name)));
    if (small.find("left") == std::string::npos && small.find("right") == std::string::npos) continue;
    const std::string other = mirrored(name);
    if (other == name || !names.contains(other)) return no(fmt::format("the class {} sounds like a direction and has no opposite here", in_quotes(name)));
    mirror.labels[name] = other;
  }
  return mirror;
}

Recommendation recommend(const Survey& survey) {
  Recommendation choice;
  // Time. Networks halve it three times: 16, 8 or 4 frames.
  while (choice.frames > 4 && survey.frames.median < static_cast<double>(choice.frames)) choice.frames /= 2;
  if (survey.rate.median > 0) {
    const double span = std::min(longest_clip, survey.seconds.median);
    if (survey.rate.max > survey.rate.min * 1.1) {
      choice.rate = std::max<std::int64_t>(1, std::llround(std::min(survey.rate.median, static_cast<double>(choice.frames) / span)));
    } else {
      choice.stride = std::max<std::int64_t>(1, static_cast<std::int64_t>(span * survey.rate.median / static_cast<double>(choice.frames) + 0.01));
    }
  }
  // Space.
  const auto side = static_cast<std::int64_t>(survey.short_side.median);
  if (!survey.one_size() || side > 128) {
    choice.short_side = side >= 128 ? 128 : std::max<std::int64_t>(32, side / 16 * 16);
    choice.crop = std::max<std::int64_t>(32, *choice.short_side * 7 / 8 / 16 * 16);
  }
  const std::int64_t pixels = choice.crop > 0 ? choice.crop : side;
  // Much data carries a large network; little is learnt by heart.
  choice.large_network = pixels >= 112 && survey.train >= 2000;
  choice.batch = std::clamp<std::int64_t>(survey.train / 4, 2, pixels >= 96 ? 8 : 16);
  const std::int64_t steps = (survey.train + choice.batch - 1) / choice.batch;
  choice.epochs = std::clamp<std::int64_t>((choice.large_network ? 3000 : 800) / std::max<std::int64_t>(1, steps), 6, 60);
  return choice;
}

std::string pipeline_text(const Survey& survey, const Recommendation& choice, const std::string& name, const std::string& data) {
  std::string text = fmt::format("# {}.\n", found_text(survey));
  if (survey.seconds.max > 0) text += fmt::format("# A video lasts {:.2g} to {:.2g} s, median {:.2g} s.\n", survey.seconds.min, survey.seconds.max, survey.seconds.median);
  text += "# Every key, its range and its default: sluice inspect --keys; of one plugin: sluice inspect augment.hflip\n";
  text += fmt::format("[run]\n{}seed = 1\nepochs = {}\n", line("name = " + quoted(name), "the results go to runs/ and this name"), choice.epochs);
  if (!survey.failed.empty())
    text += line(fmt::format("max_failures = {}", survey.failed.size()), "so many videos could not be read when this file was written: repair or remove them, and lower this");
  text += "\n[budget]\n" + line("host_ram = \"auto\"", "or e.g. \"2GiB\": the whole process stays below it; sluice check says the least that works");
  text += line(fmt::format("workers = {}", choice.workers), "threads that decode and augment");
  text += line("compute_threads = 2", "threads of the network; part of the result, so it does not follow the machine") + "\n";
  text += "[data]\nplugin = \"source.video_list\"\n" + data + "\n";
  text += frames_stage(survey, choice) + picture_stages(survey, choice) + mirror_stage(survey);
  text += "\n[batch]\n" + line(fmt::format("size = {}", choice.batch), "clips in an optimizer step; for less memory, model.batch_norm = { group = 2 } takes two at a time");
  text += "\n[model]\nplugin = \"model.recognizer\"\ninput = { mean = [0.43, 0.39, 0.38], std = [0.23, 0.22, 0.22] }\n";
  text += choice.large_network ? "backbone = { plugin = \"backbone.r3d_18\" }   # less data or time: { plugin = \"backbone.r3d\", depth = 10, width = 16 }\n"
                               : "backbone = { plugin = \"backbone.r3d\", depth = 10, width = 16 }   # more data and time: { plugin = \"backbone.r3d_18\" }\n";
  text += "head = { plugin = \"head.linear\", dropout = 0.2 }   # as many classes as the data has\n";
  text += "\n[loss]\nplugin = \"loss.cross_entropy\"\n";
  text += "\n[optimizer]\nplugin = \"optimizer.sgd\"\nlr = 0.05\n" + line("lr_base_batch = 16", "lr is meant for this batch.size and follows it") + "momentum = 0.9\nweight_decay = 1e-4\n";
  text += "\n[schedule]\nplugin = \"schedule.cosine\"\nwarmup = 0.1\n";
  text += fmt::format("\n[[metric]]\nplugin = \"metric.accuracy\"\ntopk = {}\n", survey.classes.size() > 5 ? "[1, 5]" : "[1]");
  text += "\n[[metric]]\nplugin = \"metric.mean_class\"   # every class counts the same, however rare\n";
  if (survey.val > 0) text += "\n[eval]\nbest = \"accuracy.top1\"   # the checkpoint that is kept as the best\n";
  return text;
}

}  // namespace sluice::app
