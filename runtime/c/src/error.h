// Errors of the library: one exception, with the class that Python gives the same failure. Nothing else crosses the
// C interface, which turns it into a status and a sentence.
#pragma once

#include <exception>
#include <string>
#include <utility>

#include "lstm_edge.h"

namespace lstm_edge::device {

class Error : public std::exception {
 public:
  Error(lstm_edge_status status, std::string message) : status(status), message(std::move(message)) {}
  const char* what() const noexcept override { return message.c_str(); }

  lstm_edge_status status;
  std::string message;
};

[[noreturn]] inline void fail(lstm_edge_status status, std::string message) { throw Error(status, std::move(message)); }

}  // namespace lstm_edge::device
