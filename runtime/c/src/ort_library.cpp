// Opening onnxruntime, and its error messages.
#include <dlfcn.h>

#include <cstdlib>
#include <memory>
#include <mutex>

#include "error.h"
#include "ort_table.h"
#include "text.h"

namespace lstm_edge::device {
namespace {

constexpr char kSystemName[] = "libonnxruntime.so.1";
constexpr char kVariable[] = "LSTM_EDGE_ONNXRUNTIME";
constexpr int kFatal = 4;  // of its log levels: what it refuses is an error of ours, and printed nowhere
constexpr int kDeviceAllocator = 0, kDefaultMemory = 0;
constexpr size_t kLongestLine = 300;

// The names in the text of onnxruntime's own status.
const char* code_name(int code) {
  const char* const names[] = {"SUCCESS",           "FAIL",
                               "INVALID_ARGUMENT",  "NO_SUCHFILE",
                               "NO_MODEL",          "ENGINE_ERROR",
                               "RUNTIME_EXCEPTION", "INVALID_PROTOBUF",
                               "MODEL_LOADED",      "NOT_IMPLEMENTED",
                               "INVALID_GRAPH",     "EP_FAIL"};
  return code >= 0 && size_t(code) < std::size(names) ? names[code] : "GENERAL ERROR";
}

bool is_space(char c) { return c == ' ' || (c >= '\t' && c <= '\r'); }

std::string first_line(std::string text) {
  size_t start = 0;
  while (start < text.size() && is_space(text[start])) ++start;
  while (!text.empty() && is_space(text.back())) text.pop_back();
  const size_t end = text.find_first_of("\n\r\v\f", start);
  text = text.substr(start, end == std::string::npos ? end : end - start);
  return std::string(first_characters(printable_text(text), kLongestLine));
}

bool is_old(const std::string& version) {
  const int major = std::atoi(version.c_str());
  const size_t dot = version.find('.');
  const int minor = dot == std::string::npos ? 0 : std::atoi(version.c_str() + dot + 1);
  return major < 1 || (major == 1 && minor < int(kOldestApi));
}

// What to open, and where that was said.
struct Choice {
  std::string path;
  const char* source;
};

Choice choose(const std::string& path) {
  if (!path.empty()) return {path, "the option onnxruntime"};
  const char* variable = std::getenv(kVariable);
  if (variable != nullptr && *variable != 0) return {variable, kVariable};
  return {kSystemName, "the system's library folders"};
}

void* open(const Choice& choice) {
  // onnxruntime 1.32 on Linux writes an identifier of the device below the home folder and sends usage data, unless
  // this is set when it starts. A value that the environment has already is kept.
  setenv("ORT_DISABLE_TELEMETRY", "1", 0);
  void* handle = dlopen(choice.path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (handle != nullptr) return handle;
  const char* reason = dlerror();
  fail(LSTM_EDGE_PROVIDER, "onnxruntime cannot be opened: tried " + repr(choice.path) + " (from " + choice.source +
                               "): " + first_line(reason == nullptr ? "no reason given" : reason) +
                               "; give the path of libonnxruntime.so (1.18 or newer) in the option onnxruntime or in " +
                               "the environment variable " + kVariable);
}

std::unique_ptr<OrtLibrary> load(void* handle, const Choice& choice) {
  const auto ask = reinterpret_cast<const OrtApiBase* (*)()>(dlsym(handle, "OrtGetApiBase"));
  if (ask == nullptr) {
    fail(LSTM_EDGE_PROVIDER,
         repr(choice.path) + " (from " + choice.source + ") is not onnxruntime: it has no function OrtGetApiBase");
  }
  const OrtApiBase* base = ask();
  // An older onnxruntime complains on stderr when it is asked for a newer table: its version is read before.
  const std::string version = base->GetVersionString();
  const OrtApi* table = is_old(version) ? nullptr : base->GetApi(kOldestApi);
  if (table == nullptr) {
    fail(LSTM_EDGE_PROVIDER,
         "onnxruntime " + version + " in " + repr(choice.path) + " is too old: 1.18 or newer is needed");
  }
  auto library = std::make_unique<OrtLibrary>(base, table);
  library->path = choice.path;
  library->version = version;
  try {
    library->table.call(kCreateEnv, kFatal, static_cast<const char*>("lstm_edge"), &library->environment);
    library->table.call(kCreateCpuMemoryInfo, kDeviceAllocator, kDefaultMemory, &library->memory);
    library->table.call(kGetAllocatorWithDefaultOptions, &library->allocator);
    library->table.call(kCreateRunOptions, &library->run_options);
  } catch (const Refusal& refusal) {
    fail(LSTM_EDGE_PROVIDER, "onnxruntime " + version + " cannot be started: " + refusal.line);
  }
  return library;
}

}  // namespace

void Table::throw_refusal(OrtStatus* status) const {
  const auto owner = own(status, kReleaseStatus);
  const int code = ask<int>(kGetErrorCode, static_cast<const OrtStatus*>(status));
  const char* text = ask<const char*>(kGetErrorMessage, static_cast<const OrtStatus*>(status));
  const std::string message = text == nullptr ? "" : text;
  throw Refusal{first_line(std::to_string(code) + " : " + code_name(code) + " : " + message),
                first_line("Error in execution: " + message)};
}

const OrtLibrary& open_ort_library(const std::string& path) {
  // The kernels' operators belong to the library that they were registered with first, so there is one in a process.
  static std::mutex mutex;
  static void* opened = nullptr;
  static OrtLibrary* library = nullptr;  // never destroyed: sessions may be closed at any time
  const Choice choice = choose(path);
  const std::lock_guard<std::mutex> lock(mutex);
  void* const handle = open(choice);
  if (library == nullptr) {
    library = load(handle, choice).release();
    opened = handle;
  } else if (handle != opened) {
    fail(LSTM_EDGE_PROVIDER, "this process already uses onnxruntime " + library->version + " from " +
                                 repr(library->path) + ", and " + repr(choice.path) + " (from " + choice.source +
                                 ") is another library: give the same one to every session");
  }
  return *library;
}

}  // namespace lstm_edge::device
