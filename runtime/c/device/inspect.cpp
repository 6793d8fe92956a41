// The commands inspect and check: what a file is, and whether this device gives its answers.
#include <cmath>
#include <cstring>

#include "commands.h"
#include "text.h"

namespace device_program {
namespace {

std::string axes_text(const lstm_edge_tensor& tensor) {
  std::string text = "[";
  for (int32_t axis = 0; axis < tensor.rank; ++axis) {
    if (axis > 0) text += ", ";
    text +=
        tensor.axis_names[axis] != nullptr ? std::string(tensor.axis_names[axis]) : std::to_string(tensor.shape[axis]);
  }
  return text + "]";
}

void append_tensors(std::string& text, const lstm_edge_session* session, lstm_edge_role role) {
  text += '[';
  bool first = true;
  for (const lstm_edge_tensor& tensor : tensors(session, role)) {
    text += first ? "\n    {\"name\": " : ",\n    {\"name\": ";
    first = false;
    append_json_string(text, tensor.name);
    text += std::string(", \"dtype\": \"") + dtype_name(tensor.dtype) + "\", \"axes\": [";
    for (int32_t axis = 0; axis < tensor.rank; ++axis) {
      if (axis > 0) text += ", ";
      if (tensor.axis_names[axis] != nullptr) {
        append_json_string(text, tensor.axis_names[axis]);
      } else {
        text += std::to_string(tensor.shape[axis]);
      }
    }
    text += "]}";
  }
  text += first ? "]" : "\n  ]";
}

// The notes, which are one a line.
template <typename Visit>
void each_note(const char* notes, Visit visit) {
  std::string_view rest = notes == nullptr ? "" : notes;
  while (!rest.empty()) {
    const size_t end = rest.find('\n');
    visit(rest.substr(0, end));
    rest.remove_prefix(end == std::string_view::npos ? rest.size() : end + 1);
  }
}

void append_optional(std::string& text, const char* value) {
  if (value == nullptr) {
    text += "null";
  } else {
    append_json_string(text, value);
  }
}

std::string inspect_json(const lstm_edge_session* session, const lstm_edge_info& info) {
  std::string text = "{\n  \"size_bytes\": " + std::to_string(info.size_bytes);
  text += std::string(",\n  \"verified\": ") + (info.verified != 0 ? "true" : "false") + ",\n  \"kernels\": ";
  append_optional(text, info.kernels);
  text += std::string(",\n  \"direct\": ") + (info.direct != 0 ? "true" : "false") + ",\n  \"onnxruntime\": ";
  append_optional(text, info.onnxruntime_version);
  text += ",\n  \"operators\": " + std::to_string(info.operators) + ",\n  \"inputs\": ";
  append_tensors(text, session, LSTM_EDGE_INPUTS);
  text += ",\n  \"outputs\": ";
  append_tensors(text, session, LSTM_EDGE_OUTPUTS);
  text += ",\n  \"states\": ";
  append_tensors(text, session, LSTM_EDGE_STATES);
  text += ",\n  \"notes\": [";
  bool first = true;
  each_note(info.notes, [&](std::string_view note) {
    if (!first) text += ", ";
    first = false;
    append_json_string(text, note);
  });
  text += std::string("],\n  \"card\": ") + (info.card != nullptr ? info.card : "null");
  return text + "\n}\n";
}

void print_tensors(const lstm_edge_session* session, lstm_edge_role role, const char* title) {
  for (const lstm_edge_tensor& tensor : tensors(session, role)) {
    print(wrapped(printable(std::string(title) + " " + tensor.name + ": " + dtype_name(tensor.dtype) + " " +
                            axes_text(tensor))) +
          "\n");
  }
}

void print_notes(const lstm_edge_info& info) {
  each_note(info.notes, [](std::string_view note) { print(wrapped(printable("note: " + std::string(note))) + "\n"); });
}

}  // namespace

int inspect(const Arguments& arguments) {
  const Session session = open_session(arguments.model.c_str(), arguments.session);
  const lstm_edge_info info = describe(session.get());
  if (arguments.json) {
    print(printable(inspect_json(session.get(), info)));
    return 0;
  }
  print(wrapped(printable(arguments.model + ": " + grouped(info.size_bytes) + " bytes, " +
                          (info.verified != 0 ? "verified" : "unverified"))) +
        "\n");
  print_tensors(session.get(), LSTM_EDGE_INPUTS, "input");
  print_tensors(session.get(), LSTM_EDGE_OUTPUTS, "output");
  print_tensors(session.get(), LSTM_EDGE_STATES, "state");
  if (info.operators > 0) {
    const std::string by = info.kernels == nullptr ? "function bodies" : "kernels (" + std::string(info.kernels) + ")";
    print(wrapped("lstm_edge operators: " + std::to_string(info.operators) + ", run by " + by +
                  (info.direct != 0 ? ", without onnxruntime in a push" : "")) +
          "\n");
  }
  print(printable(std::string("onnxruntime ") + info.onnxruntime_version) + "\n");
  if (info.card == nullptr) print("The file has no model card.\n");
  print_notes(info);
  return 0;
}

int self_test(const Arguments& arguments) {
  const Session session = open_session(arguments.model.c_str(), arguments.session);
  const lstm_edge_info info = describe(session.get());
  lstm_edge_check_result result{};
  result.size = sizeof result;
  const lstm_edge_status status = lstm_edge_check(session.get(), &result);
  if (status != LSTM_EDGE_OK && status != LSTM_EDGE_PARITY) check(status);
  const std::string sentence = status == LSTM_EDGE_OK ? "" : lstm_edge_error();
  const char* kind = info.kernels != nullptr ? "kernels" : "bodies";
  if (arguments.json) {
    std::string text = std::string("{\n  \"passed\": ") + (result.passed != 0 ? "true" : "false") + ",\n  \"worst\": ";
    append_number(text, result.worst);
    text += ",\n  \"tolerance\": ";
    append_number(text, result.tolerance);
    text += ",\n  \"vectors\": " + std::to_string(result.vectors) + ",\n  \"kind\": \"" + kind +
            "\",\n  \"verified\": " + (info.verified != 0 ? "true" : "false") + "\n}\n";
    print(text);
  } else {
    print(std::string(result.passed != 0 ? "passed" : "FAILED") + ": " + std::to_string(result.vectors) +
          " golden vectors, worst difference " + formatted("%.3g", result.worst) + ", tolerance " +
          formatted("%.3g", result.tolerance) + " (" + kind + "); file " +
          (info.verified != 0 ? "verified" : "unverified") + "\n");
    print_notes(info);
  }
  if (!sentence.empty()) throw Failure(1, sentence, status);
  return 0;
}

}  // namespace device_program
