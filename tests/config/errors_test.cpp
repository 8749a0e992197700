// Every kind of error, against written files: what is wrong, where exactly, and what to write instead.
// A case replaces one piece of a right pipeline; the mark ^ in the replacement is the place that the error must name.
#include "framework/config/load.hpp"

#include <doctest/doctest.h>

#include "framework/config/problems.hpp"
#include "tests/config/catalogue_of_manifests.hpp"

using namespace sluice;
using namespace sluice::testing;

namespace {

struct Case {
  const char* replace;
  const char* with;
  const char* message;
  const char* hint = "";
};

// Pieces of right_pipeline, and the same with one mistake.
const Case cases[] = {
    // [run]
    {"epochs = 6", "epochs = ^0", "run.epochs must be a whole number from 1 to 1000000, not 0", "passes over"},
    {"epochs = 6", "epochs = ^-3", "not -3"},
    {"epochs = 6", "epochs = ^6.5", "must be a whole number from 1 to 1000000, not 6.5"},
    {"epochs = 6", "epochs = ^6.0", "not 6.0", "write 6"},
    {"epochs = 6", "epochs = ^nan", "NaN is none"},
    {"epochs = 6", "epochs = ^inf", "infinity is none"},
    {"epochs = 6", "epochs = ^\"6\"", "not text '6'"},
    {"epochs = 6", "epochs = ^true", "not true"},
    {"epochs = 6", "epochs = ^[6]", "not the list [6]"},
    {"epochs = 6", "^epchs = 6\nepochs = 6", "[run] has no key 'epchs'", "did you mean epochs?"},
    {"epochs = 6", "epochs = 6\nsteps = ^100", "run.epochs and run.steps are both given"},
    {"epochs = 6", "epochs = 6\n^max_epochs = 6", "no key 'max_epochs'", "write run.epochs"},
    {"seed = 7", "seed = ^-1", "run.seed must be a whole number, at least 0, not -1"},
    {"seed = 7", "name = ^\"a/b\"", "it holds no /"},
    {"seed = 7", "name = ^\"\"", "it is empty"},
    {"seed = 7", "name = ^5", "run.name must be text, not 5", "\"5\""},
    {"seed = 7", "dir = ^\"\"", "run.dir is an empty path"},
    {"seed = 7", "device = ^\"cuda\"", "one of auto, cpu, cuda:0", "where the model runs"},
    {"seed = 7", "device = ^\"gpu\"", "must not be 'gpu'"},
    {"seed = 7", "device = ^\"cuda:-1\"", "must not be 'cuda:-1'"},
    {"seed = 7", "precision = ^16", "\"fp32\", \"bf16\" or \"fp16\", not 16", "run.precision = \"fp16\""},
    {"seed = 7", "precision = ^\"bf16-mixed\"", "not 'bf16-mixed'", "run.precision = \"bf16\""},
    {"seed = 7", "precision = ^32", "not 32", "run.precision = \"fp32\""},
    {"seed = 7", "deterministic = ^1", "run.deterministic must be true or false, not 1"},
    {"seed = 7", "max_failures = ^-0.5", "run.max_failures must be a number from 0"},
    {"seed = 7", "watchdog = ^inf", "infinity is none"},
    {"seed = 7", "^colour = 1", "[run] has no key 'colour'", "its keys are: name, dir, seed"},
    {"seed = 7", "^accumulate_grad_batches = 4", "has no key 'accumulate_grad_batches'", "batch.microbatch"},
    {"seed = 7", "^gradient_checkpointing = true", "has no key", "plan.checkpoint = true"},
    {"seed = 7", "^resume = true", "has no key", "--resume"},
    // [budget]
    {"workers = 2", "workers = ^0", "budget.workers must be a whole number from 1 to 1024, or \"auto\", not 0", "threads that decode"},
    {"workers = 2", "workers = ^-4", "from 1 to 1024, or \"auto\", not -4"},
    {"workers = 2", "workers = ^1000000000000000000", "from 1 to 1024, or \"auto\", not 1000000000000000000"},
    {"workers = 2", "workers = ^1025", "from 1 to 1024, or \"auto\", not 1025"},
    {"workers = 2", "workers = ^nan", "NaN is none"},
    {"workers = 2", "workers = ^1e18", "from 1 to 1024, or \"auto\", not 1e+18"},
    {"workers = 2", "workers = ^\"many\"", "not text 'many'"},
    {"workers = 2", "^num_workers = 2", "[budget] has no key 'num_workers'", "workers"},
    {"workers = 2", "compute_threads = ^0", "budget.compute_threads must be"},
    {"workers = 2", "in_flight = ^0", "from 1 to 1048576, or \"auto\", not 0"},
    {"workers = 2", "in_flight = ^\"many\"", "or \"auto\", not text 'many'"},
    {"workers = 2", "device_memory = ^\"6\"", "must be a size like", "\"6GiB\"?"},
    {"workers = 2", "^pin_memory = true", "has no key", "leave it out"},
    {"workers = 2", "^prefetch_factor = 2", "has no key", "budget.in_flight"},
    {"host_ram = \"1536MiB\"", "host_ram = ^\"8G\"", "may mean powers of 1000 or of 1024", "8GiB or 8GB"},
    {"host_ram = \"1536MiB\"", "host_ram = ^8", "must be a size like \"1536MiB\"", "\"8GiB\"?"},
    {"host_ram = \"1536MiB\"", "host_ram = ^-1", "not -1"},
    {"host_ram = \"1536MiB\"", "host_ram = ^\"-1GiB\"", "it is negative"},
    {"host_ram = \"1536MiB\"", "host_ram = ^1.5", "not 1.5"},
    {"host_ram = \"1536MiB\"", "host_ram = ^\"lots\"", "does not begin with a number"},
    {"host_ram = \"1536MiB\"", "host_ram = ^\"99999999999999999999GiB\"", "larger than any memory"},
    {"host_ram = \"1536MiB\"", "host_ram = ^{}", "not a table"},
    // [data], and plugins in general
    {"plugin = \"source.list\"", "plugin = ^\"source.lsit\"", "there is no plugin 'source.lsit'", "did you mean source.list?"},
    {"plugin = \"source.list\"", "plugin = ^\"decode.test\"", "decode.test is a decoder, but data needs a source", "it belongs into [[stage]]"},
    {"plugin = \"source.list\"", "plugin = ^3", "data.plugin must name a plugin, not 3"},
    {"plugin = \"source.list\"", "plugin = ^\"\"", "data.plugin must name a plugin, not nothing"},
    {"plugin = \"source.list\"", "plugin = ^\"../evil.so\"", "there is no plugin '../evil.so'", "[plugins] path"},
    {"plugin = \"source.list\"\nroot = \"data\"", "plugin = ^\"source.list\"", "source.list needs the key root: folder of videos", "root = ... (path)"},
    {"root = \"data\"", "root = \"data\"\nval = ^1.0", "data.val must be at least 0 and below 1, not 1.0"},
    {"root = \"data\"", "root = \"data\"\nval = ^-0.1", "data.val must be"},
    {"root = \"data\"", "root = \"data\"\nval = ^nan", "NaN is none"},
    {"root = \"data\"", "root = ^5", "data.root must be text, not 5", "write \"5\""},
    {"root = \"data\"", "root = \"data\"\nfollow = ^\"yes\"", "data.follow must be true or false, not text 'yes'"},
    {"root = \"data\"", "root = \"data\"\nclasses = ^\"a\"", "data.classes must be list of texts, not text 'a'", "write ['a']"},
    {"root = \"data\"", "root = \"data\"\nclasses = [\"a\", ^5]", "data.classes[1] must be text, not 5"},
    {"root = \"data\"", "root = \"data\"\nrename = ^[\"a\"]", "data.rename must be a table of texts"},
    {"root = \"data\"", "root = \"data\"\nrename = { left = ^1 }", "data.rename.left must be text"},
    {"root = \"data\"", "root = \"data\"\n^rot = \"x\"", "source.list has no key 'rot'", "did you mean root?"},
    {"root = \"data\"", "root = \"data\"\nsince = ^2024-05-17", "dates and times have no use", "in quotes"},
    {"root = \"data\"", "root = ^\"a\\u0000b\"", "holds a zero byte"},
    // [[stage]]
    {"plugin = \"augment.hflip\"", "plugin = ^\"augment.hlfip\"", "no plugin 'augment.hlfip'", "did you mean augment.hflip?"},
    {"plugin = \"augment.hflip\"", "plugin = ^\"augment.normalize\"", "no plugin 'augment.normalize'", "[model] input = { mean"},
    {"plugin = \"augment.hflip\"", "plugin = ^\"augment.open\"", "is refused: /opt/augment.open.so: everybody may write to it", ""},
    {"plugin = \"augment.hflip\"", "plugin = ^\"loss.ce\"", "loss.ce is a loss, but stage.2 needs a frames, decoder or stage", "it belongs into [loss]"},
    {"plugin = \"augment.hflip\"", "plugin = ^\"nothing.like.it\"", "no plugin 'nothing.like.it'", "searched: /usr/lib/sluice/plugins\n        refused there: /usr/lib/sluice/plugins/old.so: it has no manifest"},
    {"[[stage]]\nplugin = \"augment.hflip\"", "^[[stage]]\ntype = \"augment.hflip\"", "stage.2 names no plugin", "`plugin`, not `type`"},
    {"p = 0.5", "p = ^1.5", "stage.2.p must be 0 to 1, not 1.5", "chance that a clip is mirrored"},
    {"p = 0.5", "p = ^\"half\"", "stage.2.p must be a number, 0 to 1, not text 'half'"},
    {"p = 0.5", "p = ^-inf", "infinity is none"},
    {"p = 0.5", "^prob = 0.5", "augment.hflip has no key 'prob'", "there are: p, on, only, independent"},
    {"only = \"train\"", "only = ^\"test\"", "must be one of train, eval, not 'test'"},
    {"only = \"train\"", "on = ^[]", "stage.2.on names no stream"},
    {"only = \"train\"", "on = [\"clip\", ^\"clip\"]", "names 'clip' twice"},
    {"only = \"train\"", "on = [^\"a b\"]", "'a b' is none"},
    {"only = \"train\"", "on = [^1]", "1 is no text"},
    {"only = \"train\"", "independent = ^\"yes\"", "must be true or false"},
    {"only = \"train\"", "^onyl = \"train\"", "no key 'onyl'", "did you mean only?"},
    {"frames = 16", "frames = ^0", "stage.0.frames must be 1 to 4096, not 0"},
    {"frames = 16", "frames = ^16.0", "not 16.0", "write 16"},
    {"frames = 16", "frames = ^1000000000000000000", "must be 1 to 4096"},
    {"frames = 16", "^num_frames = 16", "no key 'num_frames'", "did you mean frames?"},
    {"plugin = \"decode.test\"", "plugin = \"decode.test\"\nshort_side = ^8", "stage.1.short_side must be 16 to 8192, not 8"},
    {"plugin = \"decode.test\"", "plugin = \"decode.test\"\nsize = [112, ^8]", "stage.1.size[1] must be 16 to 8192"},
    {"plugin = \"decode.test\"", "plugin = \"decode.test\"\nsize = ^112", "must be list of whole numbers, 16 to 8192, not 112", "write [112]"},
    {"[[stage]]\nplugin = \"augment.hflip\"", "[[stage]]\nplugin = \"augment.resize\"\ninterpolation = ^\"bilinaer\"\n[[stage]]\nplugin = \"augment.hflip\"", "must be one of nearest, bilinear, area, not 'bilinaer'", "did you mean bilinear?"},
    // [batch]
    {"size = 16", "size = ^0", "batch.size must be a whole number from 1"},
    {"size = 16", "^batch_size = 16", "[batch] has no key 'batch_size'", "size"},
    {"size = 16", "size = 16\nmicrobatch = ^32", "batch.microbatch = 32 is larger than batch.size = 16"},
    {"size = 16", "size = 16\nmicrobatch = ^0", "or \"auto\", not 0"},
    {"size = 16", "size = 16\ndrop_last = ^\"no\"", "batch.drop_last must be true or false"},
    // [model]
    {"backbone = { plugin = \"backbone.small\" }", "backbone = { plugin = ^\"backbone.smal\" }", "no plugin 'backbone.smal'", "did you mean backbone.small?"},
    {"backbone = { plugin = \"backbone.small\" }", "backbone = { plugin = ^\"head.linear\" }", "head.linear is a head, but model.backbone needs a backbone"},
    {"backbone = { plugin = \"backbone.small\" }", "backbone = { plugin = \"backbone.small\", width = ^0 }", "model.backbone.width must be 1 to 1024, not 0"},
    {"backbone = { plugin = \"backbone.small\" }", "backbone = { plugin = \"backbone.small\", ^widht = 8 }", "backbone.small has no key 'widht'", "did you mean width?"},
    {"backbone = { plugin = \"backbone.small\" }", "backbone = ^{ width = 8 }", "model.backbone names no plugin", "backbone.small"},
    {"backbone = { plugin = \"backbone.small\" }", "backbone = ^7", "model.backbone must be a table that names a backbone"},
    {"plugin = \"model.recognizer\"\ninput = { mean = [0.5, 0.5, 0.5], std = [0.2, 0.2, 0.2] }\nbackbone = { plugin = \"backbone.small\" }", "plugin = ^\"model.recognizer\"", "model.recognizer needs the key backbone"},
    {"classes = 8", "classes = ^1", "model.head.classes must be at least 2, not 1"},
    {"classes = 8", "dropout = ^1", "must be at least 0 and below 1, not 1"},
    {"std = [0.2, 0.2, 0.2]", "std = [0.2, ^0.0, 0.2]", "model.input.std must be a number above 0"},
    {"std = [0.2, 0.2, 0.2]", "std = ^0.2", "model.input.std must be a list of numbers", "write [0.2]"},
    {"std = [0.2, 0.2, 0.2]", "std = [0.2, ^\"x\", 0.2]", "not text 'x'"},
    {"std = [0.2, 0.2, 0.2]", "^sd = [0.2, 0.2, 0.2]", "[model.input] has no key 'sd'", "did you mean std?"},
    {"std = [0.2, 0.2, 0.2]", "layout = ^\"NCHW\"", "must be one of auto, contiguous, channels_last"},
    {"plugin = \"model.recognizer\"", "plugin = \"model.recognizer\"\nbatch_norm = ^\"sync\"", "\"batch\", \"frozen\" or { group = N }, not 'sync'"},
    {"plugin = \"model.recognizer\"", "plugin = \"model.recognizer\"\nbatch_norm = { group = ^0 }", "from 1 to 1048576, not 0"},
    {"plugin = \"model.recognizer\"", "plugin = \"model.recognizer\"\nbatch_norm = { group = ^32 }", "batch_norm.group = 32 is larger than batch.size = 16"},
    {"plugin = \"model.recognizer\"", "plugin = \"model.recognizer\"\nbatch_norm = { ^groups = 8 }", "has no key 'groups'", "{ group = N }"},
    {"plugin = \"model.recognizer\"", "plugin = \"model.recognizer\"\nweights = ^1", "model.weights must be text"},
    {"plugin = \"model.recognizer\"", "plugin = \"model.recognizer\"\n^pretrained = \"x.pth\"", "has no key 'pretrained'", "model.weights"},
    // [loss], [optimizer], [schedule], [[metric]]
    {"plugin = \"loss.ce\"", "plugin = ^\"decode.test\"", "decode.test is a decoder, but loss needs a loss", "[[stage]]"},
    {"plugin = \"loss.ce\"", "plugin = \"loss.ce\"\nweights = [1.0, ^0.0]", "loss.weights[1] must be above 0, not 0.0"},
    {"lr = 0.05", "lr = ^0", "optimizer.lr must be above 0, not 0"},
    {"lr = 0.05", "lr = ^nan", "NaN is none"},
    {"lr = 0.05", "lr = ^\"0.05\"", "optimizer.lr must be a number, above 0, not text '0.05'"},
    {"lr = 0.05", "lr = 0.05\nclip_norm = ^-1", "optimizer.clip_norm must be a number, at least 0, not -1"},
    {"lr = 0.05", "lr = 0.05\n^clip_nrom = 1", "no key 'clip_nrom'", "did you mean clip_norm?"},
    {"lr = 0.05", "lr = 0.05\n^learning_rate = 1", "no key 'learning_rate'", "optimizer.lr"},
    {"lr = 0.05", "lr = 0.05\n^gradient_clip_val = 1", "no key 'gradient_clip_val'", "optimizer.clip_norm"},
    {"plugin = \"optimizer.sgd\"\nlr = 0.05", "plugin = ^\"optimizer.sgd\"", "optimizer.sgd needs the key lr"},
    {"plugin = \"schedule.cosine\"", "plugin = ^\"schedule.cos\"", "no plugin 'schedule.cos'", "did you mean schedule.cosine?"},
    {"topk = [1, 5]", "topk = [^0]", "metric.0.topk[0] must be at least 1"},
    {"topk = [1, 5]", "topk = [1, ^2.5]", "must be a whole number, at least 1, not 2.5"},
    // sections
    {"[loss]\nplugin = \"loss.ce\"", "[^losses]\nplugin = \"loss.ce\"\n[loss]\nplugin = \"loss.ce\"", "a pipeline has no section 'losses'", "[loss]"},
    {"[loss]\nplugin = \"loss.ce\"", "[loss]\nplugin = \"loss.ce\"\n[^trainer]\nprecision = 16", "no section 'trainer'", "[run], [budget], [batch] and [eval]"},
    {"[loss]\nplugin = \"loss.ce\"", "[loss]\nplugin = \"loss.ce\"\n[^evla]\nevery = 1", "no section 'evla'", "did you mean eval?"},
    {"[loss]\nplugin = \"loss.ce\"", "[loss]\nplugin = \"loss.ce\"\n[^stages]\nx = 1", "no section 'stages'", "[[stage]]"},
    {"[batch]\nsize = 16", "^[[batch]]\nsize = 16", "batch must be a table, not a list", "write [batch] once"},
    {"[[metric]]\nplugin = \"metric.accuracy\"", "^[metric]\nplugin = \"metric.accuracy\"", "metric must be a list of tables, not a table", "[[metric]] with two brackets"},
    {"[run]\nepochs = 6", "^workers = 2\n[run]\nepochs = 6", "a pipeline has no key 'workers'"},
    {"[run]\nepochs = 6\nseed = 7\n", "^[run]\nseed = 7\n", "the length of the run is missing", "epochs = 10"},
    // [eval], [checkpoint], [plan], [plugins], [env]
    {"[loss]", "[eval]\nevery = ^-1\n[loss]", "eval.every must be a whole number from 0"},
    {"[loss]", "[eval]\naverage = ^\"mean\"\n[loss]", "must be one of prob, score"},
    {"[loss]", "[eval]\nclips = ^0\n[loss]", "eval.clips must be a whole number from 1"},
    {"[loss]", "[checkpoint]\nkeep = ^0\n[loss]", "checkpoint.keep must be a whole number from 1"},
    {"[loss]", "[checkpoint]\n^save_top_k = 2\n[loss]", "no key 'save_top_k'", "checkpoint.keep"},
    {"[loss]", "[plan]\nchunk = ^0\n[loss]", "plan.chunk must be"},
    {"[loss]", "[plan]\ncheckpoint = ^3\n[loss]", "plan.checkpoint must be \"auto\", true, false or a list"},
    {"[loss]", "[plan]\n^chekpoint = true\n[loss]", "[plan] has no key 'chekpoint'", "did you mean checkpoint?"},
    {"[loss]", "[plugins]\npath = ^\"nowhere\"\n[loss]", "plugins.path: there is no"},
    {"[loss]", "[plugins]\npath = [^1]\n[loss]", "plugins.path must be text"},
    {"[loss]", "[env]\n^OMP_NUM_THREADS = \"4\"\n[loss]", "would break the budget of threads", "budget.compute_threads"},
    {"[loss]", "[env]\n^LD_PRELOAD = \"x.so\"\n[loss]", "changes which libraries are loaded"},
    {"[loss]", "[env]\n^\"A B\" = \"1\"\n[loss]", "no name of an environment variable"},
    {"[loss]", "[env]\nCUDA_CACHE_DISABLE = ^[1]\n[loss]", "env.CUDA_CACHE_DISABLE must be text, not the list [1]"},
    // TOML itself
    {"seed = 7", "^epochs = 7", "cannot redefine existing integer 'epochs'", "every key and every [section] stands once"},
    {"[batch]\nsize = 16", "^[run]\nsize = 16", "cannot redefine existing table 'run'", "[[stage]]"},
    {"seed = 7", "seed = ^True", "expected 'true'", "in lower case"},
    {"seed = 7", "seed = ^None", "", "leave the key out"},
    {"seed = 7", "name = ^motion8", "this is no value", "text needs quotes: \"motion8\""},
    {"seed = 7", "name = 'abc^\nseed = 7", "no closing quote"},
    {"seed = 7", "name = \"abc^\nseed = 7", "no closing quote"},
    {"seed = 7", "seed = ^99999999999999999999", "is not representable in 64 bits"},
    {"seed = 7", "seed = ^012", "leading zeroes are prohibited"},
    {"seed = 7", "max_failures = ^1e400", "could not be interpreted"},
    {"seed = 7", "seed = ^\nname = \"x\"", "expected value"},
    {"seed = 7", "seed^: 7", "expected '='", "TOML writes key = value"},
    {"seed = 7", "seed = 7 ^name = \"x\"", "expected a comment or whitespace"},
    {"seed = 7", "dir = \"C:\\^dir\"", "unknown escape sequence", "backslash begins an escape"},
    {"seed = 7", "^= 7", "expected keys"},
    {"seed = 7", "[run^\n", "expected ']'"},
};

struct Marked {
  std::string text;
  int line = 1, column = 1;
};

Marked marked(const Case& one) {
  std::string text = right_pipeline;
  const auto at = text.find(one.replace);
  REQUIRE_MESSAGE(at != std::string::npos, "the case does not fit the pipeline: ", one.replace);
  text.replace(at, std::string(one.replace).size(), one.with);
  Marked out;
  const auto mark = text.find('^');
  REQUIRE(mark != std::string::npos);
  text.erase(mark, 1);
  for (std::size_t i = 0; i < mark; ++i) {
    if (text[i] == '\n') ++out.line, out.column = 1;
    else ++out.column;
  }
  out.text = text;
  return out;
}

}  // namespace

TEST_CASE("the pipeline that the cases start from is right") {
  const Folder folder;
  ManifestCatalogue catalogue;
  CHECK_NOTHROW(static_cast<void>(load_pipeline(folder.write("p.toml", right_pipeline), {}, catalogue)));
}

// Catches a place that is off, a message that does not name the key, a hint that was lost, and one mistake reported as two.
TEST_CASE("each mistake is reported once, at its place, with what to write instead") {
  REQUIRE(std::size(cases) >= 80);
  const Folder folder;
  for (const Case& one : cases) {
    const Marked written = marked(one);
    CAPTURE(one.with);
    const auto file = folder.write("p.toml", written.text);
    ManifestCatalogue catalogue;
    std::string text, where;
    std::size_t count = 1;
    Code code{};
    try {
      static_cast<void>(load_pipeline(file, {}, catalogue));
    } catch (const PipelineError& error) {
      text = error.what(), where = error.problems()[0].place.text(), count = error.problems().size(), code = error.code();
    } catch (const Error& error) {
      text = error.what(), where = error.where(), code = error.code();
    }
    CAPTURE(text);
    CHECK(where == fmt::format("{}:{}:{}", file.string(), written.line, written.column));
    CHECK(text.find(one.message) != std::string::npos);
    CHECK(text.find(one.hint) != std::string::npos);
    CHECK(text.starts_with(where + ": "));
    CHECK(count == 1);
    const bool refused_file = std::string_view(one.with).find("augment.open") != std::string_view::npos;
    CHECK(code == (refused_file ? Code::plugin : Code::configuration));
  }
}

// Catches stopping at the first: a person would fix, run, fix, run.
TEST_CASE("all mistakes of a file are reported, in its order, the first 20 in full") {
  const Folder folder;
  ManifestCatalogue catalogue;
  std::string text = right_pipeline;
  text.replace(text.find("workers = 2"), 11, "workers = 0");
  text.replace(text.find("p = 0.5"), 7, "p = 2.0");
  text.replace(text.find("lr = 0.05"), 9, "lr = -1");
  try {
    static_cast<void>(load_pipeline(folder.write("three.toml", text), {}, catalogue));
    FAIL("accepted");
  } catch (const PipelineError& error) {
    REQUIRE(error.problems().size() == 3);
    CHECK(error.problems()[0].message.starts_with("budget.workers"));
    CHECK(error.problems()[1].message.starts_with("stage.2.p"));
    CHECK(error.problems()[2].message.starts_with("optimizer.lr"));
    const std::string all = error.what();
    CHECK(all.find("three.toml:7:11: ") < all.find("three.toml:22:5: "));
  }
  std::string many = right_pipeline + "[plan]\n";
  for (int i = 0; i < 50; ++i) many += fmt::format("unknown{} = 1\n", i);
  try {
    static_cast<void>(load_pipeline(folder.write("many.toml", many), {}, catalogue));
    FAIL("accepted");
  } catch (const PipelineError& error) {
    CHECK(error.problems().size() == 50);
    const std::string all = error.what();
    CHECK(all.find("unknown19'") != std::string::npos);
    CHECK(all.find("unknown20'") == std::string::npos);
    CHECK(all.find("... and 30 more") != std::string::npos);
  }
}

// Catches two wishes of which one would be passed over in silence.
TEST_CASE("a segment that is to be computed twice and offloaded is refused at its place") {
  const Folder folder;
  ManifestCatalogue catalogue;
  const auto file = folder.write("p.toml", right_pipeline);
  for (const auto& keys : std::vector<std::vector<std::string>>{{"plan.checkpoint=true", "plan.offload=true"}, {"plan.checkpoint=true", "plan.offload=[\"a\"]"}, {"plan.checkpoint=[\"a\", \"b\"]", "plan.offload=[\"b\"]"}}) {
    CAPTURE(keys.back());
    try {
      static_cast<void>(load_pipeline(file, keys, catalogue));
      FAIL("accepted");
    } catch (const PipelineError& error) {
      CHECK(std::string(error.what()).starts_with("command line: " + keys.back() + ": plan.offload and plan.checkpoint name the same"));
    }
  }
  for (const auto& keys : std::vector<std::vector<std::string>>{{"plan.checkpoint=auto", "plan.offload=true"}, {"plan.checkpoint=false", "plan.offload=true"}, {"plan.checkpoint=[\"a\"]", "plan.offload=[\"b\"]"}})
    CHECK_NOTHROW(static_cast<void>(load_pipeline(file, keys, catalogue)));
}

// Catches a layout that wins over another in silence.
TEST_CASE("two layouts that differ are refused at their place") {
  const Folder folder;
  ManifestCatalogue catalogue;
  const auto file = folder.write("p.toml", right_pipeline);
  try {
    static_cast<void>(load_pipeline(file, {"model.input.layout=channels_last", "plan.layout=contiguous"}, catalogue));
    FAIL("accepted");
  } catch (const PipelineError& error) {
    CHECK(std::string(error.what()).starts_with("command line: plan.layout=contiguous: plan.layout = \"contiguous\" and model.input.layout = \"channels_last\" exclude each other"));
  }
  for (const char* pinned : {"plan.layout=channels_last", "plan.layout=auto"}) CHECK_NOTHROW(static_cast<void>(load_pipeline(file, {"model.input.layout=channels_last", pinned}, catalogue)));
}

TEST_CASE("sections that training needs are asked for by name, with an example") {
  const Folder folder;
  ManifestCatalogue catalogue;
  try {
    static_cast<void>(load_pipeline(folder.write("empty.toml", "[run]\nepochs = 1\n"), {}, catalogue));
    FAIL("accepted");
  } catch (const PipelineError& error) {
    const std::string all = error.what();
    for (const char* section : {"there is no section [data]", "there is no section [model]", "there is no section [loss]", "there is no section [optimizer]", "plugin = \"source.list\""}) {
      CAPTURE(section);
      CHECK(all.find(section) != std::string::npos);
    }
  }
  // Looking at data needs no model.
  const auto data = folder.write("data.toml", "[data]\nplugin = \"source.list\"\nroot = \"x\"\n");
  CHECK_NOTHROW(static_cast<void>(load_pipeline(data, {}, catalogue, Purpose::data)));
}
