// onnxruntime's table of functions as the library uses it: positions beside those of the kernels (kernels/ort_api.h),
// calls whose failures are exceptions, and handles that are released.
#pragma once

#include <memory>
#include <string>

#include "ort_api.h"

struct OrtEnv;
struct OrtSession;
struct OrtTypeInfo;
struct OrtSequenceTypeInfo;
struct OrtOptionalTypeInfo;
struct OrtMapTypeInfo;
struct OrtMemoryInfo;
struct OrtAllocator;
struct OrtRunOptions;
struct OrtIoBinding;

namespace lstm_edge::device {

// Positions in the table, counted in the public header of 1.29 and called in 1.20.1, 1.23.2 and 1.32.0. The
// newest function came with 1.15; wheels of 1.18 have no libonnxruntime.so to call.
constexpr int kGetErrorCode = 1, kGetErrorMessage = 2, kCreateEnv = 3, kCreateSessionFromArray = 8, kRun = 9;
constexpr int kCreateSessionOptions = 10, kDisableCpuMemArena = 19, kSetSessionLogSeverityLevel = 22;
constexpr int kSetIntraOpNumThreads = 24, kSetInterOpNumThreads = 25;
constexpr int kSessionGetInputCount = 30, kSessionGetOutputCount = 31;
constexpr int kSessionGetInputTypeInfo = 33, kSessionGetOutputTypeInfo = 34;
constexpr int kSessionGetInputName = 36, kSessionGetOutputName = 37;
constexpr int kCreateRunOptions = 39, kCreateTensorWithData = 49;
constexpr int kCastTypeInfoToTensorInfo = 55, kGetOnnxTypeFromTypeInfo = 56;
constexpr int kGetSymbolicDimensions = 63, kCreateCpuMemoryInfo = 69;
constexpr int kAllocatorFree = 76, kGetAllocatorWithDefaultOptions = 78;
constexpr int kReleaseSession = 95, kReleaseValue = 96, kReleaseTypeInfo = 98, kReleaseSessionOptions = 100;
constexpr int kCastTypeInfoToSequenceTypeInfo = 104, kGetSequenceElementType = 107;
constexpr int kAddSessionConfigEntry = 130, kRunWithBinding = 133, kCreateIoBinding = 134, kReleaseIoBinding = 135;
constexpr int kBindInput = 136, kBindOutput = 137;
constexpr int kCastTypeInfoToOptionalTypeInfo = 250, kGetOptionalContainedTypeInfo = 251;

// What onnxruntime refused: the first line of its message, at most 300 characters, as Python's first_line gives it; and
// as it gives it of a run with a binding, where onnxruntime for Python writes another beginning.
struct Refusal {
  std::string line;
  std::string line_of_binding;
};

// Typed calls by position; a status other than success is thrown as a Refusal.
class Table {
 public:
  explicit Table(const OrtApi* table) : table_(reinterpret_cast<void* const*>(table)) {}

  template <typename Result, typename... Arguments>
  Result ask(int position, Arguments... arguments) const {
    return reinterpret_cast<Result (*)(Arguments...)>(table_[position])(arguments...);
  }
  template <typename... Arguments>
  void call(int position, Arguments... arguments) const {
    check(ask<OrtStatus*>(position, arguments...));
  }
  void check(OrtStatus* status) const {
    if (__builtin_expect(status != nullptr, 0)) throw_refusal(status);
  }

  // A handle that is released by the function at `position`.
  template <typename T>
  auto own(T* object, int position) const {
    const auto release = [table = *this, position](T* held) { table.ask<void>(position, held); };
    return std::unique_ptr<T, decltype(release)>(object, release);
  }

 private:
  [[noreturn]] void throw_refusal(OrtStatus* status) const;

  void* const* table_;
};

// A library of onnxruntime that was opened, with what all of its sessions share. It stays until the process ends.
struct OrtLibrary {
  explicit OrtLibrary(const OrtApiBase* base, const OrtApi* api) : base(base), table(api) {}

  const OrtApiBase* base;
  Table table;
  std::string path;
  std::string version;  // such as "1.23.2"
  OrtEnv* environment = nullptr;
  OrtMemoryInfo* memory = nullptr;
  OrtAllocator* allocator = nullptr;
  OrtRunOptions* run_options = nullptr;
};

// Opens a library, or finds it open. `path`: of the library; empty: $LSTM_EDGE_ONNXRUNTIME, else libonnxruntime.so.1.
// Throws Error (LSTM_EDGE_PROVIDER): there is none, it is older than 1.18, or the process uses another one.
const OrtLibrary& open_ort_library(const std::string& path);

}  // namespace lstm_edge::device
