// onnxruntime as the operators use it: shapes, data, constants, and errors as exceptions.
#pragma once

#include <cstring>
#include <string>

#include "ort_api.h"

namespace lstm_edge {

struct Failure {
  std::string message;
};

// The sentence is only made when it is needed: a step must not allocate.
template <typename Message>
void require(bool holds, const Message& message) {
  if (__builtin_expect(!holds, 0)) throw Failure{message()};
}
inline void require(bool holds, const char* message) {
  if (__builtin_expect(!holds, 0)) throw Failure{message};
}

struct Shape {
  int type = 0;
  size_t rank = 0;
  const int64_t* dims = nullptr;
  int64_t copied[8];

  int64_t count() const {
    int64_t total = 1;
    for (size_t i = 0; i < rank; ++i) {
      if (dims[i] == 0) return 0;  // the other axes of an empty tensor may multiply to any number
    }
    for (size_t i = 0; i < rank; ++i) total *= dims[i];
    return total;
  }
  std::string text() const {
    if (rank > 8) return "of too many axes";
    std::string result = "[";
    for (size_t i = 0; i < rank; ++i) result += (i ? ", " : "") + std::to_string(dims[i]);
    return result + "]";
  }
};

// onnxruntime's functions with errors as exceptions; nothing here outlives a call.
class Runtime {
 public:
  explicit Runtime(const OrtApi* table, bool has_shape_reference) : api(table), shape_reference_(has_shape_reference) {}

  void check(OrtStatus* status) const {
    if (status == nullptr) return;
    api.release(kReleaseStatus, status);
    throw Failure{"onnxruntime refused a request of the kernel"};
  }

  void read_shape(const OrtValue* value, Shape& shape) const {
    if (shape_reference_) {
      check(api.call(kGetShapeReference, value, &shape.type, &shape.dims, &shape.rank));
      return;
    }
    OrtTensorTypeAndShapeInfo* info = nullptr;
    check(api.call(kGetTensorTypeAndShape, value, &info));
    OrtStatus* status =
        api.call(kGetTensorElementType, static_cast<const OrtTensorTypeAndShapeInfo*>(info), &shape.type);
    if (status == nullptr) {
      status = api.call(kGetDimensionsCount, static_cast<const OrtTensorTypeAndShapeInfo*>(info), &shape.rank);
    }
    const bool fits = status == nullptr && shape.rank <= 8;
    if (fits) {
      status = api.call(kGetDimensions, static_cast<const OrtTensorTypeAndShapeInfo*>(info),
                        static_cast<int64_t*>(shape.copied), shape.rank);
    }
    api.release(kReleaseShapeInfo, info);
    check(status);
    require(fits, "a tensor has more than 8 axes");
    shape.dims = shape.copied;
  }

  template <typename T>
  const T* data(const OrtValue* value) const {
    void* memory = nullptr;
    check(api.call(kGetTensorMutableData, const_cast<OrtValue*>(value), &memory));
    return static_cast<const T*>(memory);
  }

  // An input that may be absent: null then.
  const OrtValue* optional_input(const OrtKernelContext* context, size_t index) const {
    const OrtValue* value = nullptr;
    check(api.call(kContextGetInput, context, index, &value));
    return value;
  }

  const OrtValue* input(const OrtKernelContext* context, size_t index) const {
    const OrtValue* value = optional_input(context, index);
    require(value != nullptr, "an input is missing");
    return value;
  }

  float* output(OrtKernelContext* context, size_t index, const int64_t* dims, size_t rank) const {
    OrtValue* value = nullptr;
    check(api.call(kContextGetOutput, context, index, dims, rank, &value));
    return value == nullptr ? nullptr : const_cast<float*>(data<float>(value));
  }

  const OrtValue* constant(const OrtKernelInfo* info, size_t index, const char* name) const {
    int is_constant = 0;
    const OrtValue* value = nullptr;
    check(api.call(kInfoGetConstantInput, info, index, &is_constant, &value));
    require(is_constant && value != nullptr, [&] { return std::string("input ") + name + " must be a constant"; });
    return value;
  }

  // Reads an attribute of a node; false where there is none of this type.
  bool attribute(const OrtKernelInfo* info, const char* name, int64_t& value) const {
    return has(api.call(kInfoGetInt64, info, name, &value));
  }
  bool attribute(const OrtKernelInfo* info, const char* name, std::string& text) const {
    char characters[32];
    size_t size = sizeof characters;  // with the zero that ends it
    if (!has(api.call(kInfoGetString, info, name, static_cast<char*>(characters), &size))) return false;
    text.assign(characters, size - 1);
    return true;
  }

  Api api;

 private:
  bool has(OrtStatus* status) const {
    if (status != nullptr) api.release(kReleaseStatus, status);
    return status == nullptr;
  }

  bool shape_reference_;
};

}  // namespace lstm_edge
