// Standard input and output of a service: signals end it between two pieces, a closed pipe ends it quietly.
#pragma once

#include <csignal>
#include <string>
#include <string_view>

namespace device_program {

// SIGINT or SIGTERM came: the piece that is being answered is finished first.
struct Stopped {
  int signal;
};
// The reader of standard output is gone.
struct PipeClosed {};

// Blocks SIGINT and SIGTERM except while it waits, so that no signal is lost and none cuts an answer. A second signal
// also ends a wait for a reader that does not read.
class Pipes {
 public:
  Pipes();

  // Reads a line with its line break into `line`; false at the end of the input. A line of more than `most` bytes is
  // read to its end, and `line` then has `most` + 1 bytes. Throws Stopped or PipeClosed.
  bool read_line(std::string& line, size_t most);
  // Reads exactly `size` bytes; returns how many there were before the end of the input.
  size_t read_bytes(char* bytes, size_t size);
  // Writes all of the text, at once where the pipe has room. Throws PipeClosed, or Stopped after a second signal.
  void write(std::string_view text);

 private:
  bool fill();
  void wait(bool for_output);

  sigset_t waiting_;  // the signals that are blocked while it waits
  std::string buffer_;
  size_t begin_ = 0;
};

}  // namespace device_program
