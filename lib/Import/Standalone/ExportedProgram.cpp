//===- ExportedProgram.cpp - reads torch.export's archives, without torch ----------===//
//
// Sizes may be expressions in symbols. The tape is made at several values of the symbols, as a
// model is recorded at several sizes, and what varies is left open if it follows from the inputs.
//
//===----------------------------------------------------------------------------===//

#include "pfcn/Import/ExportedProgram.h"

#include "Standalone/GraphReader.h"
#include "Standalone/Zip.h"

#include "pfcn/Import/InputSpecs.h"

#include "llvm/Support/raw_ostream.h"

using namespace pfcn;
using llvm::json::Object;

template <typename T> static T valueOrThrow(llvm::Expected<T> value) {
  if (!value)
    throw ImportError(llvm::toString(value.takeError()));
  return std::move(*value);
}

static llvm::json::Value parseJson(llvm::StringRef text, const std::string &what) {
  llvm::Expected<llvm::json::Value> value = llvm::json::parse(text);
  if (value)
    return std::move(*value);
  throw ImportError(what + " is no JSON: " + llvm::toString(value.takeError()));
}

/// The archive, after a look at what says of which kind and version it is.
static ZipArchive openArchive(const std::string &path) {
  ZipArchive archive = valueOrThrow(ZipArchive::open(path));
  const std::string root = archive.getRoot() + "/";
  auto check = [&](const char *name, llvm::StringRef wanted, const std::string &what) {
    if (!archive.has(root + name))
      throw ImportError(path + ": no archive of torch.export: it has no file '" + name + "'");
    llvm::StringRef found = valueOrThrow(archive.read(root + name)).trim();
    if (found != wanted)
      throw ImportError(path + ": " + what + " '" + found.str() + "' is not supported, only '" + wanted.str() + "'");
  };
  check("archive_format", "pt2", "the archive format");
  check("archive_version", "0", "version");
  if (archive.has(root + "byteorder"))
    check("byteorder", "little", "the byte order");
  return archive;
}

static std::string findModel(const ZipArchive &archive, const std::string &path) {
  std::vector<std::string> models;
  std::string folder = archive.getRoot() + "/models/";
  for (const std::string &name : archive.getNames())
    if (llvm::StringRef(name).starts_with(folder) && llvm::StringRef(name).ends_with(".json"))
      models.push_back(name);
  if (models.size() != 1)
    throw ImportError(path + ": the archive holds " + std::to_string(models.size()) + " models, and one is read");
  return models.front();
}

static void checkVersion(const Object &program, const std::string &path) {
  const Object *version = program.getObject("schema_version");
  std::optional<int64_t> major = version ? version->getInteger("major") : std::nullopt;
  if (!major)
    throw ImportError(path + ": the graph names no schema_version");
  if (*major != kSchemaVersion)
    throw ImportError(path + ": the graph has schema version " + std::to_string(*major) + ", and this pfcn reads " +
                      std::to_string(kSchemaVersion) + "; export it with the torch that pfcn was built for");
}

/// Constants and buffers that are not saved with the weights.
static Constants readConstants(const ZipArchive &archive) {
  std::string folder = archive.getRoot() + "/data/constants/", file = folder + "model_constants_config.json";
  Constants constants;
  if (!archive.has(file))
    return constants;
  llvm::json::Value parsed = parseJson(valueOrThrow(archive.read(file)), file);
  const Object *config = parsed.getAsObject() ? parsed.getAsObject()->getObject("config") : nullptr;
  if (!config)
    throw ImportError(file + " has no 'config'");
  for (const auto &[name, value] : *config) {
    const Object *entry = value.getAsObject();
    std::optional<llvm::StringRef> data = entry ? entry->getString("path_name") : std::nullopt;
    const Object *meta = entry ? entry->getObject("tensor_meta") : nullptr;
    bool isRaw = data && meta && !entry->getBoolean("use_pickle").value_or(false);
    if (isRaw && archive.has(folder + data->str()))
      constants[name.str()] = {valueOrThrow(archive.read(folder + data->str())), *meta};
  }
  return constants;
}

/// Every weight that the graph names is in the archive; what pfcn-opt makes of a model does not depend on their values.
static void checkWeights(const ZipArchive &archive) {
  std::string folder = archive.getRoot() + "/data/weights/", file = folder + "model_weights_config.json";
  if (!archive.has(file))
    return;
  llvm::json::Value parsed = parseJson(valueOrThrow(archive.read(file)), file);
  const Object *config = parsed.getAsObject() ? parsed.getAsObject()->getObject("config") : nullptr;
  if (!config)
    throw ImportError(file + " has no 'config'");
  for (const auto &[name, value] : *config) {
    std::optional<llvm::StringRef> data =
        value.getAsObject() ? value.getAsObject()->getString("path_name") : std::nullopt;
    if (!data)
      throw ImportError(file + " names no file for '" + name.str() + "'");
    valueOrThrow(archive.read(folder + data->str()));
  }
}

/// The tape with the sizes left open that vary with the symbols.
static Tape makeTape(const GraphReader &reader, const std::string &path) {
  std::vector<SymbolValues> samples = reader.getSamples();
  Tape tape = reader.read(samples.front());
  for (size_t i = 1; i < samples.size(); ++i) {
    Tape other = reader.read(samples[i]);
    std::optional<Tape> joined = unify(tape, other);
    if (!joined)
      throw ImportError(path + ": what the program does with its open sizes does not follow from the sizes of its"
                               " inputs; give --input-shapes without ?");
    tape = std::move(*joined);
  }
  return tape;
}

static std::string print(const Tape &tape) {
  std::shared_ptr<Model> model = buildModel(tape);
  std::string text;
  llvm::raw_string_ostream stream(text);
  model->module->print(stream, mlir::OpPrintingFlags().enableDebugInfo(true, /*prettyForm=*/false));
  return text;
}

llvm::Expected<std::string> pfcn::importExportedProgram(const std::string &path, const std::string &inputShapes) {
  try {
    std::vector<InputSpec> inputs = parseInputSpecs(inputShapes);
    ZipArchive archive = openArchive(path);
    std::string file = findModel(archive, path);
    llvm::json::Value parsed = parseJson(valueOrThrow(archive.read(file)), path + ": '" + file + "'");
    const Object *program = parsed.getAsObject();
    if (!program)
      throw ImportError(path + ": '" + file + "' holds no program");
    checkVersion(*program, path);
    checkWeights(archive);
    GraphReader reader(*program, readConstants(archive), path);
    if (!inputs.empty())
      reader.setInputs(inputs);
    return print(makeTape(reader, path));
  } catch (const std::runtime_error &error) {
    llvm::StringRef message = error.what();
    return llvm::createStringError(message.starts_with(path) ? message.str() : path + ": " + message.str());
  }
}
