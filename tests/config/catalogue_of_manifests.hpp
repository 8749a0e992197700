// A catalogue for tests: manifests made by the SDK from plain structs, no files.
#pragma once

#include <filesystem>
#include <fstream>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include <fmt/format.h>
#include <unistd.h>

#include <sluice/error.hpp>
#include <sluice/fields.hpp>
#include <sluice/plugin.hpp>

#include "framework/config/catalogue.hpp"

namespace sluice::testing {

struct ListSource {
  Text root;
  double val = 0.2;
  bool follow = false;
  std::vector<Text> classes;
  std::vector<Text> lists;
  StringMap rename;
  static constexpr auto fields = sluice::fields(
      field(&ListSource::root, "root", "folder of videos", path, required), field(&ListSource::val, "val", "share of the val split", below(0, 1)),
      field(&ListSource::follow, "follow", "follow links"), field(&ListSource::classes, "classes", "names of the classes"),
      field(&ListSource::lists, "lists", "files that list videos", path), field(&ListSource::rename, "rename", "other names of classes"));
};
struct Dense {
  std::int64_t frames = 16, stride = 2;
  static constexpr auto fields = sluice::fields(field(&Dense::frames, "frames", "frames of a clip", range(1, 4096)), field(&Dense::stride, "stride", "frames from one to the next", at_least(1)));
};
struct Decoder {
  std::optional<std::int64_t> short_side;
  std::vector<std::int64_t> size;
  static constexpr auto fields = sluice::fields(field(&Decoder::short_side, "short_side", "pixels of the shorter side", range(16, 8192)), field(&Decoder::size, "size", "height and width", range(16, 8192)));
};
struct HFlip {
  double p = 0.5;
  static constexpr auto fields = sluice::fields(field(&HFlip::p, "p", "chance that a clip is mirrored", range(0, 1)));
};
struct Resize {
  std::int64_t short_side = 128;
  Text interpolation = "bilinear";
  static constexpr auto fields = sluice::fields(field(&Resize::short_side, "short_side", "pixels", at_least(1)), field(&Resize::interpolation, "interpolation", "how", one_of("nearest|bilinear|area")));
};
struct Small {
  std::int64_t width = 16;
  static constexpr auto fields = sluice::fields(field(&Small::width, "width", "channels of the first layer", range(1, 1024)));
};
struct Wide {
  std::int64_t depth = 50;
  static constexpr auto fields = sluice::fields(field(&Wide::depth, "depth", "layers", at_least(1)));
};
struct Linear {
  std::optional<std::int64_t> classes;
  double dropout = 0;
  static constexpr auto fields = sluice::fields(field(&Linear::classes, "classes", "outputs", at_least(2)), field(&Linear::dropout, "dropout", "share of features that is zeroed", below(0, 1)));
};
struct Recognizer {
  Part backbone{"backbone"};
  Part head{"head"};
  static constexpr auto fields = sluice::fields(field(&Recognizer::backbone, "backbone", "frames to features", required), field(&Recognizer::head, "head", "features to scores", required));
};
struct CrossEntropy {
  double smoothing = 0;
  std::vector<double> weights;
  static constexpr auto fields = sluice::fields(field(&CrossEntropy::smoothing, "smoothing", "of labels", range(0, 1)), field(&CrossEntropy::weights, "weights", "of classes", above(0)));
};
struct Sgd {
  double lr = 0.1, momentum = 0.9;
  static constexpr auto fields = sluice::fields(field(&Sgd::lr, "lr", "learning rate", above(0), required), field(&Sgd::momentum, "momentum", "of the gradients", below(0, 1)));
};
struct Adam {
  double lr = 1e-3;
  std::vector<double> betas = {0.9, 0.999};
  static constexpr auto fields = sluice::fields(field(&Adam::lr, "lr", "learning rate", above(0)), field(&Adam::betas, "betas", "of the moments", below(0, 1)));
};
struct Cosine {
  double warmup = 0;
  static constexpr auto fields = sluice::fields(field(&Cosine::warmup, "warmup", "share of the run", below(0, 1)));
};
struct Accuracy {
  std::vector<std::int64_t> topk = {1};
  static constexpr auto fields = sluice::fields(field(&Accuracy::topk, "topk", "ranks that count", at_least(1)));
};

class ManifestCatalogue final : public Catalogue {
 public:
  ManifestCatalogue() {
    using abi::Kind;
    const auto add = [&](const abi::Manifest& manifest) { manifests_[manifest.name] = manifest; };
    add(detail::make_manifest<ListSource>("source.list", Kind::source, 0, ""));
    add(detail::make_manifest<Dense>("frames.dense", Kind::frames, 0, ""));
    add(detail::make_manifest<Decoder>("decode.test", Kind::decoder, 0, ""));
    add(detail::make_manifest<HFlip>("augment.hflip", Kind::stage, 0, ""));
    add(detail::make_manifest<Resize>("augment.resize", Kind::stage, 0, ""));
    add(detail::make_manifest<Small>("backbone.small", Kind::backbone, 0, ""));
    add(detail::make_manifest<Wide>("backbone.wide", Kind::backbone, 0, ""));
    add(detail::make_manifest<Linear>("head.linear", Kind::head, 0, ""));
    add(detail::make_manifest<Recognizer>("model.recognizer", Kind::model, 0, ""));
    add(detail::make_manifest<CrossEntropy>("loss.ce", Kind::loss, 0, ""));
    add(detail::make_manifest<Sgd>("optimizer.sgd", Kind::optimizer, 0, ""));
    add(detail::make_manifest<Adam>("optimizer.adam", Kind::optimizer, 0, ""));
    add(detail::make_manifest<Cosine>("schedule.cosine", Kind::schedule, 0, ""));
    add(detail::make_manifest<Accuracy>("metric.accuracy", Kind::metric, 0, ""));
  }
  const abi::Manifest* manifest(const std::string& name) const override {
    const auto at = manifests_.find(name);
    return at == manifests_.end() ? nullptr : &at->second;
  }
  std::vector<std::string> names(abi::Kind kind) const override {
    std::vector<std::string> out;
    for (const auto& [name, manifest] : manifests_)
      if (manifest.kind == static_cast<std::uint32_t>(kind)) out.push_back(name);
    return out;
  }
  std::vector<std::string> names() const override {
    std::vector<std::string> out;
    for (const auto& [name, manifest] : manifests_) out.push_back(name);
    return out;
  }
  std::string refusal(const std::string& name) const override { return name == "augment.open" ? "/opt/augment.open.so: everybody may write to it. chmod o-w /opt/augment.open.so" : ""; }
  std::vector<std::string> refusals() const override { return {"/usr/lib/sluice/plugins/old.so: it has no manifest"}; }
  std::vector<std::string> searched() const override { return {"/usr/lib/sluice/plugins"}; }
  void add_path(const std::filesystem::path& path) override {
    if (!std::filesystem::exists(path)) throw Error(Code::configuration, "there is no '" + path.string() + "'");
    added.push_back(path);
  }
  std::vector<std::filesystem::path> added;

 private:
  std::map<std::string, abi::Manifest> manifests_;
};

// A folder that goes away with the test.
class Folder {
 public:
  Folder() : path_(std::filesystem::temp_directory_path() / fmt::format("sluice_config_{}_{}", ::getpid(), ++count())) { std::filesystem::create_directories(path_); }
  ~Folder() { std::filesystem::remove_all(path_); }
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;
  [[nodiscard]] const std::filesystem::path& path() const { return path_; }
  [[nodiscard]] std::filesystem::path write(const std::string& name, std::string_view text) const {
    std::filesystem::create_directories((path_ / name).parent_path());
    std::ofstream(path_ / name, std::ios::binary) << text;
    return path_ / name;
  }

 private:
  static int& count() {
    static int n = 0;
    return n;
  }
  std::filesystem::path path_;
};

// A pipeline that is right; tests break it in one place.
inline const std::string right_pipeline = R"([run]
epochs = 6
seed = 7

[budget]
host_ram = "1536MiB"
workers = 2

[data]
plugin = "source.list"
root = "data"

[[stage]]
plugin = "frames.dense"
frames = 16

[[stage]]
plugin = "decode.test"

[[stage]]
plugin = "augment.hflip"
only = "train"
p = 0.5

[batch]
size = 16

[model]
plugin = "model.recognizer"
input = { mean = [0.5, 0.5, 0.5], std = [0.2, 0.2, 0.2] }
backbone = { plugin = "backbone.small" }
head = { plugin = "head.linear", classes = 8 }

[loss]
plugin = "loss.ce"

[optimizer]
plugin = "optimizer.sgd"
lr = 0.05

[schedule]
plugin = "schedule.cosine"

[[metric]]
plugin = "metric.accuracy"
topk = [1, 5]
)";

}  // namespace sluice::testing
