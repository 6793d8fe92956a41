// The part of onnxruntime's C interface that the kernels use, declared by hand: no registry carries its headers, and
// the interface is a stable, append-only table of function pointers. Positions were checked against 1.18 to 1.32.
#pragma once

#include <cstddef>
#include <cstdint>

struct OrtStatus;
struct OrtValue;
struct OrtKernelInfo;
struct OrtKernelContext;
struct OrtSessionOptions;
struct OrtCustomOpDomain;
struct OrtTensorTypeAndShapeInfo;

struct OrtApi;  // an array of function pointers; see Api below

struct OrtApiBase {
  const OrtApi* (*GetApi)(uint32_t version);
  const char* (*GetVersionString)();
};

// Version 16 of the struct: the oldest whose kernels may return a status. The order is the interface's.
struct OrtCustomOp {
  uint32_t version;
  void* (*CreateKernel)(const OrtCustomOp*, const OrtApi*, const OrtKernelInfo*);
  const char* (*GetName)(const OrtCustomOp*);
  const char* (*GetExecutionProviderType)(const OrtCustomOp*);
  int (*GetInputType)(const OrtCustomOp*, size_t);
  size_t (*GetInputTypeCount)(const OrtCustomOp*);
  int (*GetOutputType)(const OrtCustomOp*, size_t);
  size_t (*GetOutputTypeCount)(const OrtCustomOp*);
  void (*KernelCompute)(void*, OrtKernelContext*);
  void (*KernelDestroy)(void*);
  int (*GetInputCharacteristic)(const OrtCustomOp*, size_t);
  int (*GetOutputCharacteristic)(const OrtCustomOp*, size_t);
  int (*GetInputMemoryType)(const OrtCustomOp*, size_t);
  int (*GetVariadicInputMinArity)(const OrtCustomOp*);
  int (*GetVariadicInputHomogeneity)(const OrtCustomOp*);
  int (*GetVariadicOutputMinArity)(const OrtCustomOp*);
  int (*GetVariadicOutputHomogeneity)(const OrtCustomOp*);
  OrtStatus* (*CreateKernelV2)(const OrtCustomOp*, const OrtApi*, const OrtKernelInfo*, void**);
  OrtStatus* (*KernelComputeV2)(void*, OrtKernelContext*);
};

namespace lstm_edge {

constexpr uint32_t kCustomOpVersion = 16;
constexpr uint32_t kOldestApi = 18;  // onnxruntime 1.18
constexpr uint32_t kShapeApi = 24;   // 1.24 has GetTensorElementTypeAndShapeDataReference: a shape, no allocation

enum ElementType { kFloat = 1, kUint8 = 2, kInt8 = 3, kInt32 = 6, kInt64 = 7 };
constexpr int kInvalidArgument = 2;
constexpr int kOptional = 1;  // of an input

// Typed access to the table by position.
class Api {
 public:
  explicit Api(const OrtApi* table) : table_(reinterpret_cast<void* const*>(table)) {}

  template <typename... Arguments>
  OrtStatus* call(int position, Arguments... arguments) const {
    return reinterpret_cast<OrtStatus* (*)(Arguments...)>(table_[position])(arguments...);
  }
  template <typename T>
  void release(int position, T* object) const {
    reinterpret_cast<void (*)(T*)>(table_[position])(object);
  }
  OrtStatus* error(const char* message) const {
    return reinterpret_cast<OrtStatus* (*)(int, const char*)>(table_[0])(kInvalidArgument, message);
  }

 private:
  void* const* table_;
};

// Positions in the table.
constexpr int kCreateCustomOpDomain = 26, kCustomOpDomainAdd = 27, kAddCustomOpDomain = 28;
constexpr int kGetTensorMutableData = 51;
constexpr int kGetTensorElementType = 60, kGetDimensionsCount = 61, kGetDimensions = 62, kGetTensorTypeAndShape = 65;
constexpr int kInfoGetInt64 = 86, kInfoGetString = 87;
constexpr int kContextGetInput = 90, kContextGetOutput = 91;
constexpr int kReleaseStatus = 93, kReleaseShapeInfo = 99;
constexpr int kInfoGetNodeName = 244, kInfoGetConstantInput = 249, kContextParallelFor = 274;
constexpr int kGetShapeReference = 414;

}  // namespace lstm_edge
