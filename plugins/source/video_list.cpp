// source.video_list: videos from a text or csv list, or from a folder with a folder for each class.
#include <algorithm>
#include <cmath>
#include <deque>
#include <filesystem>
#include <optional>
#include <tuple>
#include <unordered_map>

#include <sluice/rng.hpp>
#include <sluice/source.hpp>

#include "class_names.hpp"
#include "list_file.hpp"
#include "split_list.hpp"
#include "video_folder.hpp"

namespace {

using namespace sluice;

struct VideoListSource {
  std::optional<Text> path, train, val, root;
  std::vector<Text> classes;
  double split = 0.8;
  Text split_by = "auto";
  std::int64_t split_seed = 0;
  Text group_by = "";
  Text unit = "seconds";
  std::vector<Text> videos, columns;
  Text path_column = "path", label_column = "label", start_column = "start", end_column = "end";
  Text separator = "auto";
  Text duplicates = "reject";
  std::vector<Text> extensions = {"mp4", "avi", "mkv", "mov", "webm", "m4v", "mpg", "mpeg", "wmv", "flv", "ts", "3gp"};

  static constexpr std::string_view help =
      "Videos from a list (path, label, perhaps start and end of a piece; csv, tabs or spaces) or from a folder with a folder for each class. Lines that cannot be used are reported by their number.";
  static constexpr auto fields = sluice::fields(
      field(&VideoListSource::path, "path", "a list, a folder with a folder for each class, or one with such folders in train/ and val/ (also valid/, validation/, test/)", sluice::path),
      field(&VideoListSource::train, "train", "instead of path: list or folder to train on", sluice::path),
      field(&VideoListSource::val, "val", "list or folder to evaluate on", sluice::path),
      field(&VideoListSource::root, "root", "where relative paths of a list start; default: the list's own folder", sluice::path),
      field(&VideoListSource::classes, "classes", "names of the classes in their order; default: all labels, sorted (numbers by value, names by their bytes). Other labels are rejected"),
      field(&VideoListSource::split, "split", "share of path's samples to train on, where path has no train/ and val/", range(0.0, 1.0)),
      field(&VideoListSource::split_by, "split_by", "what stays on one side: file (within each class), group, or time: the first part of each video trains. auto: group where group_by is set, else file",
            one_of("auto|file|time|group")),
      field(&VideoListSource::split_seed, "split_seed", "another number gives another split; run.seed does not change it"),
      field(&VideoListSource::group_by, "group_by", "column of what must stay together, e.g. person"),
      field(&VideoListSource::unit, "unit", "of start and end", one_of("seconds|frames|fraction")),
      field(&VideoListSource::videos, "videos", "columns of paths: each becomes a stream of its name; default: path_column becomes clip"),
      field(&VideoListSource::columns, "columns", "columns of text: each becomes a stream of its name"),
      field(&VideoListSource::path_column, "path_column", "name of the column in the first line; a first line without it is a sample"),
      field(&VideoListSource::label_column, "label_column", "name of the column with the label"),
      field(&VideoListSource::start_column, "start_column", "name of the column where a piece starts"),
      field(&VideoListSource::end_column, "end_column", "name of the column where a piece ends"),
      field(&VideoListSource::separator, "separator", "between fields; auto looks at the first line", one_of("auto|comma|tab|semicolon|space")),
      field(&VideoListSource::duplicates, "duplicates", "the same video (or piece) listed again, also in train and val: reject it, or keep it", one_of("reject|keep")),
      field(&VideoListSource::extensions, "extensions", "what a file in a folder must end in to be a video; a folder of pictures is one too"));

  void check() const {
    const auto wrong = [](const std::string& what, const std::string& hint) { throw Error(Code::configuration, what, hint); };
    if (!path && !train && !val) wrong("neither path nor train names a list or a folder", "path = \"videos.csv\", or train = \"train.csv\" and val = \"val.csv\"");
    if (path && (train || val)) wrong("path is given beside train or val", "path is split; train and val are not: give one or the other");
    if (split_by == "group" && group_by.empty()) wrong("split_by = \"group\" needs group_by", "group_by = \"person\", the name of a column");
    if (!group_by.empty() && split_by != "auto" && split_by != "group") wrong("group_by is set, but split_by = \"" + split_by.str() + "\"", "leave split_by out, or set it to \"group\"");
    if (!group_by.empty() && !path) wrong("group_by is set, but nothing is split: train and val are given", "leave group_by out, or give one list as path");
  }

  void list(Listing& listing) const;
};

// A part of the listing: all of it on one side, or to be split.
struct Part {
  VideoList videos;
  std::optional<Split> fixed;
};

// What is remembered of a sample between the two readings of the lists.
struct Noted {
  SplitItem item;
  std::uint64_t path = 0;  // which file it is: train/ and val/ may hold the same names, and links give one file several
  std::uint32_t label = 0;  // number of its text
  std::uint8_t part = 0;
  bool usable = true;
};

constexpr std::uint32_t no_label = ~std::uint32_t{0};

std::uint64_t hash_of(std::string_view text, std::uint64_t from = 0) {
  std::uint64_t hash = mix_bits(from ^ text.size());
  for (; text.size() >= 8; text.remove_prefix(8)) {
    std::uint64_t word = 0;
    std::copy_n(text.data(), 8, reinterpret_cast<char*>(&word));
    hash = mix_bits(hash ^ word);
  }
  std::uint64_t rest = 0;
  std::copy(text.begin(), text.end(), reinterpret_cast<char*>(&rest));
  return mix_bits(hash ^ rest);
}

class Lister {
 public:
  Lister(const VideoListSource& source, Listing& listing) : source_(source), listing_(listing) {}

  void run() {
    open_parts();
    note_all();
    if (noted_.empty()) throw Error(Code::data, "no video is listed in " + name_, "one line for each video: path, label; or a folder with a folder for each class");
    names_.settle();
    reject_unlabelled();
    if (source_.duplicates == "reject") reject_duplicates();
    choose_splits();
    listing_.classes(names_.classes());
    add_all();
  }

 private:
  void open_parts() {
    const auto train_below = source_.path ? train_folder(source_.path->str()) : std::string(), val_below = source_.path ? val_folder(source_.path->str()) : std::string();
    if (source_.path && (train_below.empty() || val_below.empty())) open(source_.path->str(), std::nullopt);
    if (!train_below.empty() && !val_below.empty()) open(train_below, Split::train), open(val_below, Split::val);
    if (source_.train) open(source_.train->str(), Split::train);
    if (source_.val) open(source_.val->str(), Split::val);
  }
  void open(const std::string& path, std::optional<Split> fixed) {
    name_ += (name_.empty() ? "" : " and ") + path;
    std::error_code no_folder;
    if (std::filesystem::is_directory(path, no_folder)) {
      std::vector<std::string> endings;
      for (const auto& extension : source_.extensions) endings.push_back(extension.str());
      auto folder = open_folder(path, endings);
      for (const auto& name : folder.classes) names_.seen(name);  // also those without a video
      parts_.push_back({std::move(folder.videos), fixed});
      return;
    }
    ListFormat format{source_.path_column.str(), source_.label_column.str(), source_.start_column.str(), source_.end_column.str(), source_.group_by.str(), {}, {}, separator(),
                      source_.root ? source_.root->str() : std::string()};
    for (const auto& name : source_.videos) format.path_columns.push_back(name.str());
    for (const auto& name : source_.columns) format.text_columns.push_back(name.str());
    parts_.push_back({open_list(path, format), fixed});
  }
  [[nodiscard]] char separator() const {
    const auto& name = source_.separator;
    return name == "comma" ? ',' : name == "tab" ? '\t' : name == "semicolon" ? ';' : name == "space" ? ' ' : '\0';
  }

  // First reading: what is wrong with each line by itself, and what is needed of it to see what is wrong between them.
  void note_all() {
    for (std::size_t part = 0; part < parts_.size(); ++part)
      parts_[part].videos([&](const ListedVideo& video) {
        tell(video, part, 0);
        noted_.push_back(note(video, part));
      });
  }
  Noted note(const ListedVideo& video, std::size_t part) {
    Noted noted;
    noted.part = static_cast<std::uint8_t>(part);
    noted.item.file = hash_of(video.key);
    noted.item.unit = source_.group_by.empty() ? noted.item.file : hash_of(video.group, 1);
    noted.item.piece = video.piece;
    noted.item.start = video.start;
    noted.item.end = video.end;
    for (std::size_t i = 0; i < video.paths; ++i) noted.path = mix_bits(noted.path ^ identity(video.streams[i].second));
    std::string problem = video.problem;
    for (std::size_t i = 0; i < video.paths && problem.empty(); ++i) problem = problem_of(video.streams[i].second);
    if (problem.empty() && !source_.group_by.empty() && video.group.empty()) problem = "no " + source_.group_by.str() + ", which group_by names";
    noted.label = no_label;
    if (problem.empty() && !video.label.empty()) {
      noted.label = names_.seen(video.label);
      if (!names_.is_class(noted.label)) problem = "the label '" + video.label + "' is none of the classes" + names_.some();
    }
    noted.usable = problem.empty();
    if (!noted.usable) listing_.reject(video.origin, problem);
    labelled_ = labelled_ || noted.label != no_label;
    return noted;
  }
  std::uint64_t identity(const std::string& path) {
    if (path != last_identified_) last_identified_ = path, last_identity_ = identity_of(path);
    return last_identity_;
  }
  // Pieces of one video mostly follow each other.
  const std::string& problem_of(const std::string& path) {
    if (path != last_path_) last_path_ = path, last_problem_ = problem_with(path);
    return last_problem_;
  }

  // Calls function(video, number) for the lines that `which` marks, with another reading; there are few.
  template <class Function> void for_marked(const std::vector<bool>& which, Function function) {
    if (std::find(which.begin(), which.end(), true) == which.end()) return;
    std::size_t number = 0;
    for (const auto& part : parts_)
      part.videos([&](const ListedVideo& video) {
        if (number < which.size() && which[number]) function(video, number);
        ++number;
      });
  }

  void reject_unlabelled() {
    if (!labelled_) return;
    std::vector<bool> which(noted_.size());
    for (std::size_t i = 0; i < noted_.size(); ++i) which[i] = noted_[i].usable && noted_[i].label == no_label;
    for_marked(which, [&](const ListedVideo& video, std::size_t i) {
      listing_.reject(video.origin, "no label, and others have one");
      noted_[i].usable = false;
    });
  }

  void reject_duplicates() {
    std::vector<std::uint32_t> order;
    for (std::uint32_t i = 0; i < noted_.size(); ++i)
      if (noted_[i].usable) order.push_back(i);
    const auto place = [&](std::uint32_t i) { return std::make_tuple(noted_[i].path, noted_[i].item.piece, noted_[i].item.start, noted_[i].item.end); };
    std::sort(order.begin(), order.end(), [&](auto a, auto b) { return std::make_pair(place(a), a) < std::make_pair(place(b), b); });
    std::unordered_map<std::size_t, std::string> first_of;  // number of a duplicate: where the first stood
    std::vector<bool> which(noted_.size());
    std::unordered_map<std::size_t, std::size_t> firsts;
    for (std::size_t i = 1, first = 0; i < order.size(); ++i) {
      if (place(order[i]) != place(order[first])) {
        first = i;
        continue;
      }
      which[order[i]] = which[order[first]] = true;
      firsts[order[i]] = order[first];
    }
    for_marked(which, [&](const ListedVideo& video, std::size_t i) {
      const auto found = firsts.find(i);
      if (found == firsts.end()) {
        first_of[i] = video.origin;
        return;
      }
      const bool leak = parts_[noted_[i].part].fixed != parts_[noted_[found->second].part].fixed;
      const bool other = noted_[i].label != noted_[found->second].label;
      listing_.reject(video.origin, "listed already at " + first_of[found->second] + (leak ? ", for training" : "") + (other ? ", with another label" : ""));
      noted_[i].usable = false;
    });
  }

  void choose_splits() {
    evaluation_.assign(noted_.size(), false);
    std::vector<SplitItem> items;
    std::vector<std::uint32_t> numbers;
    for (std::uint32_t i = 0; i < noted_.size(); ++i) {
      const auto& fixed = parts_[noted_[i].part].fixed;
      if (fixed) evaluation_[i] = *fixed == Split::val;
      if (fixed || !noted_[i].usable) continue;
      items.push_back(noted_[i].item);
      items.back().label = static_cast<std::int32_t>(noted_[i].label == no_label ? -1 : names_.number(noted_[i].label));
      numbers.push_back(i);
    }
    if (items.empty()) return;
    if (source_.split_by != "time") {
      const auto evaluation = split_by_unit(items, source_.split, static_cast<std::uint64_t>(source_.split_seed));
      for (std::size_t k = 0; k < items.size(); ++k) evaluation_[numbers[k]] = evaluation[k];
      return;
    }
    const auto cuts = cuts_in_time(items, source_.split, source_.unit == "frames");
    cuts_.assign(noted_.size(), 0);
    std::vector<bool> which(noted_.size());
    for (std::size_t k = 0; k < items.size(); ++k) {
      cuts_[numbers[k]] = cuts[k];
      which[numbers[k]] = std::isnan(cuts[k]);
    }
    for_marked(which, [&](const ListedVideo& video, std::size_t i) {
      listing_.reject(video.origin, "its file is listed whole too: split_by = \"time\" cannot keep training and evaluation apart");
      noted_[i].usable = false;
    });
  }

  // Second reading.
  void add_all() {
    std::size_t number = 0;
    Entry entry;
    for (std::size_t part = 0; part < parts_.size(); ++part)
      parts_[part].videos([&](const ListedVideo& video) {
        tell(video, part, 0.5);
        const auto i = number++;
        if (i < noted_.size() && noted_[i].item.file != hash_of(video.key)) number = noted_.size() + 1;
        if (number > noted_.size()) throw Error(Code::data, "a list changed while it was read", "", video.origin);
        if (!noted_[i].usable) return;
        entry.split = evaluation_[i] ? Split::val : Split::train;
        entry.label = noted_[i].label == no_label ? -1 : names_.number(noted_[i].label);
        entry.streams = video.streams;
        entry.unit = video.piece ? unit() : Unit::whole;
        entry.start = video.start;
        entry.end = video.end;
        entry.group = video.group;
        entry.origin = video.origin;
        if (cuts_.empty() || parts_[part].fixed) listing_.add(entry);
        else add_cut(entry, cuts_[i]);
      });
    if (number != noted_.size()) throw Error(Code::data, "a list became shorter while it was read: " + name_);
  }
  void add_cut(Entry& entry, double cut) {
    const bool whole = entry.unit == Unit::whole;
    if (whole) entry.unit = Unit::fraction, entry.start = 0, entry.end = 1;
    const auto start = entry.start, end = entry.end;
    entry.split = Split::train;
    entry.end = std::min(end, cut);
    if (entry.end > entry.start) listing_.add(entry);
    entry.split = Split::val;
    entry.start = std::max(start, cut);
    entry.end = end;
    if (entry.end > entry.start) listing_.add(entry);
  }
  [[nodiscard]] Unit unit() const { return source_.unit == "frames" ? Unit::frames : source_.unit == "fraction" ? Unit::fraction : Unit::seconds; }

  void tell(const ListedVideo& video, std::size_t part, double done) {
    if (told_++ % 4096 != 0) return;
    listing_.progress("reading " + name_, done + 0.5 * (static_cast<double>(part) + video.progress) / static_cast<double>(parts_.size()));
  }

  const VideoListSource& source_;
  Listing& listing_;
  std::vector<Part> parts_;
  ClassNames names_{[&] {
    std::vector<std::string> given;
    for (const auto& name : source_.classes) given.push_back(name.str());
    return given;
  }()};
  std::deque<Noted> noted_;  // grows without a copy: a million lines at once are not rare
  std::vector<bool> evaluation_;
  std::vector<double> cuts_;  // only where the split is in time
  std::string name_, last_path_, last_problem_, last_identified_;
  std::uint64_t last_identity_ = 0;
  bool labelled_ = false;
  std::uint64_t told_ = 0;
};

void VideoListSource::list(Listing& listing) const { Lister(*this, listing).run(); }

SLUICE_SOURCE(VideoListSource, "source.video_list");

}  // namespace
