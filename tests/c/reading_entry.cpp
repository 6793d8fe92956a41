// What the reader of model files makes of bytes, as JSON, for a test that compares it with Python; and the same without
// an answer, for a fuzzer.
#include <cstdint>
#include <string>
#include <string_view>

#include "error.h"
#include "function_check.h"
#include "model_file.h"
#include "model_reading.h"
#include "sha256.h"

namespace {

using namespace lstm_edge::device;

std::string json(std::string_view text) {
  constexpr char kHex[] = "0123456789abcdef";
  std::string quoted = "\"";
  for (const char one : text) {
    const auto byte = static_cast<unsigned char>(one);
    if (byte < 32 || byte == '"' || byte == '\\' || byte == 127) {
      quoted += "\\u00";
      quoted += kHex[byte >> 4];
      quoted += kHex[byte & 15];
    } else {
      quoted += one;
    }
  }
  return quoted + '"';
}

// The status and the sentence of what the function throws, else what it returns.
template <typename Function>
std::string answer(Function function) {
  try {
    return function();
  } catch (const Error& error) {
    return "{\"status\": " + std::to_string(int(error.status)) + ", \"message\": " + json(error.message) + "}";
  }
}

template <typename Texts>
std::string list(const Texts& texts) {
  std::string all;
  for (const auto& text : texts) all += (all.empty() ? "" : ", ") + json(text);
  return "[" + all + "]";
}

std::string facts(const ModelReading& reading) {
  std::string calls, functions, metadata;
  for (const auto& call : reading.calls) {
    calls += (calls.empty() ? "" : ", ") +
             list(std::initializer_list<std::string_view>{call.domain, call.name, call.overload});
  }
  for (const auto& function : reading.functions) {
    uint64_t count = 0;
    for (const auto& call : function.calls) count += call.second;
    functions += (functions.empty() ? "[" : ", [") + json(identifier(function.operation)) + ", " +
                 std::to_string(function.data.size()) + ", " + std::to_string(count) + "]";
  }
  for (const auto& [key, value] : reading.metadata) {
    metadata += (metadata.empty() ? "" : ", ") + json(key) + ": " + json(value);
  }
  return "{\"calls\": [" + calls + "], \"functions\": [" + functions + "], \"metadata\": {" + metadata +
         "}, \"external\": " + list(reading.external) + ", \"graphs\": " + std::to_string(reading.graphs) +
         ", \"operators\": " + list(called_operators(reading)) + "}";
}

std::string bodies(std::string_view bytes) {
  CheckedModel model;
  model.reading = std::make_shared<ModelReading>(read_model(bytes));
  check_bodies(bytes, model);
  return "null";
}

std::string describe(std::string_view bytes) {
  const std::string whole = answer([&] { return std::string(check_integrity(bytes) ? "true" : "false"); });
  const std::string read = answer([&] { return facts(read_model(bytes)); });
  const std::string checked = answer([&] {
    const CheckedModel model = check_model(bytes);
    return "{\"verified\": " + std::string(model.verified ? "true" : "false") +
           ", \"operators\": " + list(model.operators) + "}";
  });
  return "{\"integrity\": " + whole + ", \"reading\": " + read + ", \"model\": " + checked +
         ", \"bodies\": " + answer([&] { return bodies(bytes); }) + "}";
}

thread_local std::string kept;

}  // namespace

extern "C" {

// 0, or the status of the refusal. Never throws.
__attribute__((visibility("default"))) int lstm_edge_check_bytes(const uint8_t* data, size_t size) {
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  try {
    check_bodies(bytes, check_model(bytes));
    return 0;
  } catch (const Error& error) {
    return error.status;
  } catch (...) {
    return LSTM_EDGE_MEMORY;
  }
}

// JSON, valid until the next call in this thread.
__attribute__((visibility("default"))) const char* lstm_edge_describe_bytes(const uint8_t* data, size_t size) {
  kept = describe(std::string_view(reinterpret_cast<const char*>(data), size));
  return kept.c_str();
}

// The SHA-256 of a file, or the sentence for a file that cannot be read, as JSON.
__attribute__((visibility("default"))) const char* lstm_edge_describe_file(const char* path, size_t size) {
  kept = answer([&] { return json(sha256_hex(read_model_bytes(std::string(path, size)))); });
  return kept.c_str();
}

__attribute__((visibility("default"))) void lstm_edge_sha256(const uint8_t* data, size_t size, int portable,
                                                             uint8_t* sum) {
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  const auto made = portable ? sha256_portable(bytes) : sha256(bytes);
  for (size_t i = 0; i < made.size(); ++i) sum[i] = made[i];
}

}  // extern "C"
