// What Python's `translated` turns into a sentence: an exception of another library about unreadable bytes.
#pragma once

#include <string>
#include <utility>

namespace lstm_edge::device {

struct Unreadable {
  explicit Unreadable(std::string message) : message(std::move(message)) {}
  std::string message;  // str(exception), or the name of its class if that is empty
};

// reading.reason: the message on one line of at most 200 characters.
std::string reason(const Unreadable& error);

}  // namespace lstm_edge::device
