#include "file_kinds.h"

#include <algorithm>
#include <cstdint>

#include "error.h"

namespace lstm_edge::device {
namespace {

constexpr size_t kBeginning = 512, kFirstEntry = 300, kEnd = 1 << 16;  // bytes that tell the kind

// A kind of file, and what lstm-edge export makes a model from: FILE stands for the path.
struct FileKind {
  const char* what;
  const char* source;  // empty: nothing is known
  bool direct;         // whether that is the file itself, and not what it was made from
  const char* advice;  // what to do where nothing makes a model of it; may be empty
};

constexpr FileKind kSafetensors{"a .safetensors checkpoint", "FILE", true, ""};
constexpr FileKind kKeras{"a Keras file", "FILE", true, ""};
constexpr FileKind kPyTorch{"a PyTorch checkpoint", "package.module:factory --weights FILE", true, ""};
constexpr FileKind kTorchScript{"a TorchScript file", "package.module:factory", false, ""};
constexpr FileKind kProgram{"a program of torch.export", "package.module:factory", false, ""};
constexpr FileKind kTfLite{"a TensorFlow Lite file", "model.keras", false, ""};
constexpr FileKind kArrays{"an array of NumPy", "", true,
                           "the model comes first, as in lstm-edge run MODEL.onnx INPUT.npy"};
constexpr FileKind kArchive{"a zip archive", "", true, ""};
constexpr FileKind kText{"a text file", "", true, ""};

bool is_safetensors(std::string_view start, uint64_t size) {
  if (start.size() < 9 || start[8] != '{') return false;
  uint64_t header = 0;
  for (int i = 7; i >= 0; --i) header = header << 8 | uint8_t(start[size_t(i)]);
  return header <= size - 8;
}

const FileKind* archive_kind(const std::string& names) {
  const auto has = [&](const char* word) { return names.find(word) != std::string::npos; };
  if (has("/constants.pkl")) return &kTorchScript;
  if (has("/models/model.json")) return &kProgram;
  if (has("/data.pkl")) return &kPyTorch;
  if (has("metadata.json")) return &kKeras;
  return has(".npy") ? &kArrays : &kArchive;
}

bool is_text(std::string_view start) {
  return !start.empty() && std::all_of(start.begin(), start.end(), [](char letter) {
    return letter == '\t' || letter == '\n' || letter == '\r' || (letter >= 32 && letter < 127);
  });
}

const FileKind* kind_of(std::string_view data) {
  const std::string_view start = data.substr(0, kBeginning);
  const auto begins = [&](std::string_view word) { return start.substr(0, word.size()) == word; };
  if (is_safetensors(start, data.size())) return &kSafetensors;
  if (begins("PK\x03\x04")) {
    const std::string_view end = data.substr(data.size() - std::min(data.size(), kEnd));
    return archive_kind(std::string(start.substr(0, kFirstEntry)) + std::string(end));
  }
  if (begins("\x89HDF\r\n\x1a\n")) return &kKeras;
  // Pickles of protocol 2 to 5, which torch.save wrote before version 1.6.
  if (start.size() > 1 && start[0] == '\x80' && start[1] >= 2 && start[1] <= 5) return &kPyTorch;
  if (begins("\x93NUMPY")) return &kArrays;
  if (start.size() > 7 && start.substr(4, 4) == "TFL3") return &kTfLite;
  return is_text(start) ? &kText : nullptr;
}

// A word as Python's shlex.quote writes it.
std::string shell_word(const std::string& word) {
  const auto plain = [](char letter) {
    return (letter >= 'a' && letter <= 'z') || (letter >= 'A' && letter <= 'Z') || (letter >= '0' && letter <= '9') ||
           std::string_view("@%+=:,./-_").find(letter) != std::string_view::npos;
  };
  if (!word.empty() && std::all_of(word.begin(), word.end(), plain)) return word;
  std::string quoted = "'";
  for (const char letter : word) quoted += letter == '\'' ? std::string("'\"'\"'") : std::string(1, letter);
  return quoted + "'";
}

}  // namespace

void check_kind(std::string_view data, const std::string& path) {
  const FileKind* kind = kind_of(data);
  if (kind == nullptr) return;
  std::string advice = *kind->advice ? std::string(": ") + kind->advice : "", source = kind->source;
  if (!source.empty()) {
    const size_t at = source.find("FILE");
    if (at != std::string::npos) source.replace(at, 4, shell_word(path));
    advice = ": lstm-edge export " + source + " -o model.onnx makes one";
    if (!kind->direct) advice += " of what it was made from";
  }
  fail(LSTM_EDGE_ARTIFACT, path + ": this is " + kind->what + ", and an .onnx file was expected" + advice);
}

}  // namespace lstm_edge::device
