// Answers lines of JSON from a stream: what `lstm-edge run --stream` reads and writes.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "handles.h"
#include "json_line.h"

namespace device_program {

enum class OnBadLine { kStop, kSkip, kHold };

// Appends an array as nested lists of JSON; NaN and infinity become null.
void append_array(std::string& text, const lstm_edge_array& array);

class Lines {
 public:
  Lines(lstm_edge_session* session, lstm_edge_stream* stream, OnBadLine policy);

  // The answer to a line, with its line break; "" where it has none. Throws Failure where the policy is to stop.
  const std::string& answer(int64_t number, std::string_view line, size_t most);
  // Ends the sequence; the line with what is left, if anything is.
  const std::string& finish();

 private:
  void push(const Value& piece);
  void append_outputs(const lstm_edge_array* outputs);
  void refuse(int64_t number, const Failure& failure);
  bool is_left(const lstm_edge_array* outputs) const;

  lstm_edge_stream* stream_;
  OnBadLine policy_;
  std::vector<lstm_edge_tensor> inputs_;
  std::vector<lstm_edge_tensor> outputs_;
  std::vector<OwnedArray> held_;  // the last good piece
  std::vector<OwnedArray> piece_;
  std::string text_;
};

}  // namespace device_program
