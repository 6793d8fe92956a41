// base64.b64decode(text, validate=True).
#pragma once

#include <string>
#include <string_view>

namespace lstm_edge::device {

// Throws Unreadable with the repr of Python's exception, such as "Error('Incorrect padding')".
std::string decode_base64(std::string_view text);

}  // namespace lstm_edge::device
