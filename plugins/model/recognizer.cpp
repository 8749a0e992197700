// A recognizer: a backbone and a head. Weights keep their published names: the backbone's as they are, the head's under
// the name that the backbone's family gives it (fc, blocks.5.proj).
#include <memory>
#include <string>
#include <vector>

#include <sluice/torch/parts.hpp>
#include <sluice/torch/plugin.hpp>

namespace {

using sluice::NamedTensor;

class Recognizer : public sluice::Model, public sluice::WithParts {
 public:
  Recognizer(std::unique_ptr<sluice::Backbone> backbone, std::unique_ptr<sluice::Head> head, std::string stream)
      : backbone_(std::move(backbone)), head_(std::move(head)), stream_(std::move(stream)) {}

  sluice::Outputs forward(const sluice::Inputs& inputs, sluice::Pass& pass) override {
    const auto& clip = inputs.get(stream_);
    if (clip.dim() != 5)
      throw sluice::Error(sluice::Code::configuration, "model.recognizer wants a video in '" + stream_ + "', but it has " + std::to_string(clip.dim()) + " axes, not 5",
                          "name a video stream: stream = \"clip\"");
    sluice::Outputs out;
    out.set("logits", head_->forward(backbone_->forward(clip, pass), pass));
    return out;
  }
  std::vector<NamedTensor> weights() override { return joined(backbone_->weights(), head_->weights()); }
  std::vector<NamedTensor> statistics() override { return joined(backbone_->statistics(), head_->statistics()); }
  void set_training(bool training) override {
    backbone_->set_training(training);
    head_->set_training(training);
  }
  void move_to(at::Device device) override {
    backbone_->move_to(device);
    head_->move_to(device);
  }
  std::int64_t batch_norms(bool freeze) override { return backbone_->batch_norms(freeze) + head_->batch_norms(freeze); }
  std::vector<sluice::NamedPart> parts() override { return {{"", backbone_.get()}, {backbone_->head_name(), head_.get()}}; }

 private:
  std::vector<NamedTensor> joined(std::vector<NamedTensor> all, std::vector<NamedTensor> of_head) const {
    for (auto& [name, tensor] : of_head) all.push_back({backbone_->head_name() + "." + name, std::move(tensor)});
    return all;
  }

  std::unique_ptr<sluice::Backbone> backbone_;
  std::unique_ptr<sluice::Head> head_;
  std::string stream_;
};

struct Recipe {
  static constexpr std::string_view help = "classifies a clip: a backbone and a head";
  sluice::Part backbone{"backbone"};
  sluice::Part head{"head"};
  sluice::Text stream = "clip";
  static constexpr auto fields = sluice::fields(
      sluice::field(&Recipe::backbone, "backbone", "network from clip to features", sluice::required),
      sluice::field(&Recipe::head, "head", "layers from features to classes", sluice::required),
      sluice::field(&Recipe::stream, "stream", "video stream that it looks at"));

  std::unique_ptr<sluice::Model> build(const sluice::ModelContext& context) const {
    sluice::BackboneContext clip;
    if (!context.streams.empty()) {
      const auto found = context.streams.find(stream.str());
      if (found == context.streams.end()) {
        std::string known;
        for (const auto& [name, info] : context.streams) known += (known.empty() ? "" : ", ") + name;
        throw sluice::Error(sluice::Code::configuration, "model.recognizer: no stream '" + stream.str() + "' reaches the model", "there are: " + known);
      }
      const auto& info = found->second;
      if (info.axes != "THWC")
        throw sluice::Error(sluice::Code::configuration, "model.recognizer: the stream '" + stream.str() + "' is no video (THWC)");
      clip = {info.shape[3], info.shape[0], info.shape[1], info.shape[2]};
    }
    auto network = sluice::build_part<sluice::BackboneFactory>(backbone, clip);
    auto top = sluice::build_part<sluice::HeadFactory>(head, sluice::HeadContext{network->channels(), context.classes});
    return std::make_unique<Recognizer>(std::move(network), std::move(top), stream.str());
  }
};

}  // namespace

SLUICE_MODEL(Recipe, "model.recognizer");
