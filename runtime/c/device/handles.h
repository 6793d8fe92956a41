// The handles of lstm_edge.h with owners, and its statuses as one exception: what the commands of the program share.
#pragma once

#include <exception>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "lstm_edge.h"

namespace device_program {

// A failure with its sentence and the exit code of the command line: 1 where a check failed, 2 where the input or the
// environment is at fault.
class Failure : public std::exception {
 public:
  Failure(int exit_code, std::string sentence, lstm_edge_status status = LSTM_EDGE_INPUT)
      : exit_code(exit_code), status(status), sentence(std::move(sentence)) {}
  const char* what() const noexcept override { return sentence.c_str(); }

  int exit_code;
  lstm_edge_status status;
  std::string sentence;
};

// Throws Failure with the library's sentence unless the status is LSTM_EDGE_OK.
void check(lstm_edge_status status);

struct CloseSession {
  void operator()(lstm_edge_session* session) const { lstm_edge_close(session); }
};
struct CloseStream {
  void operator()(lstm_edge_stream* stream) const { lstm_edge_stream_close(stream); }
};
using Session = std::unique_ptr<lstm_edge_session, CloseSession>;
using Stream = std::unique_ptr<lstm_edge_stream, CloseStream>;

Session open_session(const char* path, const lstm_edge_options& options);
Stream open_stream(lstm_edge_session* session, int64_t batch_size);
lstm_edge_info describe(const lstm_edge_session* session);
// The tensors of a role, in the order of the model; their names are valid as long as the session.
std::vector<lstm_edge_tensor> tensors(const lstm_edge_session* session, lstm_edge_role role);

// Elements of an array.
size_t element_count(const lstm_edge_array& array);
// Bytes of one element, and NumPy's name.
size_t item_size(lstm_edge_dtype dtype);
const char* dtype_name(lstm_edge_dtype dtype);

// Whether one of the axes is named "time".
bool has_time(const lstm_edge_tensor& tensor);
// The shape of a piece of `steps` steps; with one step the time axis is left out, which is a frame.
void fill_shape(const lstm_edge_tensor& tensor, int64_t batch_size, int64_t steps, lstm_edge_array& array);

}  // namespace device_program
