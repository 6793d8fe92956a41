#include "lines.h"

#include <utility>

#include "text.h"

namespace device_program {
namespace {

template <typename T>
const T& at(const void* data, size_t index) {
  return static_cast<const T*>(data)[index];
}

void append_element(std::string& text, lstm_edge_dtype dtype, const void* data, size_t index) {
  switch (dtype) {
    case LSTM_EDGE_FLOAT32: append_number(text, at<float>(data, index)); break;
    case LSTM_EDGE_FLOAT64: append_number(text, at<double>(data, index)); break;
    case LSTM_EDGE_FLOAT16: append_float16(text, at<uint16_t>(data, index)); break;
    case LSTM_EDGE_BOOL: text += at<uint8_t>(data, index) != 0 ? "true" : "false"; break;
    case LSTM_EDGE_UINT8: text += std::to_string(at<uint8_t>(data, index)); break;
    case LSTM_EDGE_INT8: text += std::to_string(at<int8_t>(data, index)); break;
    case LSTM_EDGE_UINT16: text += std::to_string(at<uint16_t>(data, index)); break;
    case LSTM_EDGE_INT16: text += std::to_string(at<int16_t>(data, index)); break;
    case LSTM_EDGE_UINT32: text += std::to_string(at<uint32_t>(data, index)); break;
    case LSTM_EDGE_INT32: text += std::to_string(at<int32_t>(data, index)); break;
    case LSTM_EDGE_UINT64: text += std::to_string(at<uint64_t>(data, index)); break;
    case LSTM_EDGE_INT64: text += std::to_string(at<int64_t>(data, index)); break;
  }
}

// An array in place of a value that is not read, because the library refuses its name.
OwnedArray unread(const char* name) {
  OwnedArray owned;
  owned.memory.resize(1);
  owned.array.name = name;
  owned.array.dtype = LSTM_EDGE_FLOAT32;
  owned.array.data = owned.memory.data();
  return owned;
}

void append_axis(std::string& text, const lstm_edge_array& array, int32_t axis, size_t& index) {
  if (axis == array.rank) {
    append_element(text, array.dtype, array.data, index++);
    return;
  }
  text += '[';
  for (int64_t i = 0; i < array.shape[axis]; ++i) {
    if (i > 0) text += ", ";
    append_axis(text, array, axis + 1, index);
  }
  text += ']';
}

}  // namespace

void append_array(std::string& text, const lstm_edge_array& array) {
  size_t index = 0;
  append_axis(text, array, 0, index);
}

Lines::Lines(lstm_edge_session* session, lstm_edge_stream* stream, OnBadLine policy)
    : stream_(stream),
      policy_(policy),
      inputs_(tensors(session, LSTM_EDGE_INPUTS)),
      outputs_(tensors(session, LSTM_EDGE_OUTPUTS)) {}

const std::string& Lines::answer(int64_t number, std::string_view line, size_t most) {
  text_.clear();
  if (line.find_first_not_of(" \t\n\r\v\f") == std::string_view::npos) return text_;
  try {
    if (line.size() > most) {
      throw Failure(2, "the line has more than " + grouped(int64_t(most)) + " characters, at most that many are read");
    }
    const Value piece = parse_line(line);
    if (piece.is_only("reset")) {
      held_.clear();
      check(lstm_edge_stream_reset(stream_));
      return text_;
    }
    if (piece.is_only("flush")) {
      const lstm_edge_array* outputs = nullptr;
      check(lstm_edge_stream_flush(stream_, &outputs));
      append_outputs(outputs);
    } else {
      push(piece);
    }
  } catch (const BadLine& error) {
    refuse(number, Failure(2, error.what()));
  } catch (const Failure& error) {
    if (error.status != LSTM_EDGE_INPUT && error.status != LSTM_EDGE_STREAMING) throw;  // not the fault of the line
    refuse(number, error);
  }
  text_ += '\n';
  return text_;
}

void Lines::push(const Value& piece) {
  piece_.clear();
  if (piece.kind != Value::kObject) {
    // With several inputs the library refuses an array without a name.
    const bool one = inputs_.size() == 1;
    piece_.push_back(one ? to_array(inputs_[0].name, inputs_[0].dtype, piece) : unread(nullptr));
  }
  for (const auto& member : piece.members) {
    const lstm_edge_tensor* known = nullptr;
    for (const lstm_edge_tensor& input : inputs_) {
      if (member.first == input.name) known = &input;
    }
    // The library refuses an unknown name before it looks at the array.
    piece_.push_back(known != nullptr ? to_array(known->name, known->dtype, member.second)
                                      : unread(member.first.c_str()));
  }
  std::vector<lstm_edge_array> arrays(1);  // room for one, so that an empty object has an address too
  arrays.clear();
  for (const OwnedArray& owned : piece_) arrays.push_back(owned.array);
  const lstm_edge_array* outputs = nullptr;
  check(lstm_edge_stream_push(stream_, arrays.data(), arrays.size(), &outputs));
  append_outputs(outputs);
  std::swap(held_, piece_);
}

void Lines::append_outputs(const lstm_edge_array* outputs) {
  if (outputs_.size() == 1) {
    append_array(text_, outputs[0]);
    return;
  }
  text_ += '{';
  for (size_t i = 0; i < outputs_.size(); ++i) {
    if (i > 0) text_ += ", ";
    append_json_string(text_, outputs_[i].name);
    text_ += ": ";
    append_array(text_, outputs[i]);
  }
  text_ += '}';
}

void Lines::refuse(int64_t number, const Failure& failure) {
  if (policy_ == OnBadLine::kStop) {
    throw Failure(failure.exit_code, "line " + std::to_string(number) + ": " + failure.sentence);
  }
  std::string told = failure.sentence, again;
  if (policy_ == OnBadLine::kHold && !held_.empty()) {
    std::vector<lstm_edge_array> arrays;
    for (const OwnedArray& owned : held_) arrays.push_back(owned.array);
    const lstm_edge_array* outputs = nullptr;
    const lstm_edge_status status = lstm_edge_stream_push(stream_, arrays.data(), arrays.size(), &outputs);
    if (status == LSTM_EDGE_INPUT || status == LSTM_EDGE_STREAMING) {
      told += std::string("; the last good line cannot be repeated: ") + lstm_edge_error();
    } else {
      check(status);
      text_.clear();
      append_outputs(outputs);
      again = std::move(text_);
    }
  }
  text_ = "{\"line\": " + std::to_string(number) + ", \"error\": ";
  append_json_string(text_, told);
  if (!again.empty()) text_ += ", \"answer\": " + again;
  text_ += '}';
}

bool Lines::is_left(const lstm_edge_array* outputs) const {
  for (size_t i = 0; i < outputs_.size(); ++i) {
    if (element_count(outputs[i]) > 0) return true;
  }
  return false;
}

const std::string& Lines::finish() {
  text_.clear();
  const lstm_edge_array* outputs = nullptr;
  const lstm_edge_status status = lstm_edge_stream_flush(stream_, &outputs);
  if (status == LSTM_EDGE_OK) {
    if (!is_left(outputs)) return text_;
    append_outputs(outputs);
  } else {
    const std::string sentence = std::string("at the end of the input: ") + lstm_edge_error();
    const bool bad = status == LSTM_EDGE_INPUT || status == LSTM_EDGE_STREAMING;
    if (!bad) check(status);
    if (policy_ == OnBadLine::kStop) throw Failure(2, sentence);
    text_ = "{\"line\": null, \"error\": ";
    append_json_string(text_, sentence);
    text_ += '}';
  }
  text_ += '\n';
  return text_;
}

}  // namespace device_program
