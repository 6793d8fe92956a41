// str.isprintable() of one character, by the Unicode table of the Python that ran generate.py.
#pragma once

namespace lstm_edge::device {

bool is_printable(char32_t character);

}  // namespace lstm_edge::device
