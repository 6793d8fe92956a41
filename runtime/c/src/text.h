// Text as Python writes it, because every refusal has Python's sentence: repr, the formats of f-strings, UTF-8.
//
// Text is UTF-8. What JSON escapes as half a surrogate pair is kept as the three bytes that UTF-8 would give it, which
// `is_utf8` refuses and `repr` shows as "\ud800".
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

namespace lstm_edge::device {

// repr(text) of a str, and ascii(text).
std::string repr(std::string_view text);
std::string ascii(std::string_view text);
// repr(bytes), such as b'\x93NUMPY'.
std::string repr_of_bytes(std::string_view bytes);
// repr(value) of a float: 1e-05, 1e+16, 1.0, nan, inf; the shortest digits that give the value again.
std::string float_text(double value);
// f"{value:.3g}" with 3 digits; f"{value:g}" has 6.
std::string general(double value, int digits = 6);
// f"{value:,}"
std::string with_commas(int64_t value);
std::string with_commas_unsigned(uint64_t value);
// The same of an integer's decimal digits.
std::string with_commas(std::string_view digits);
// ", ".join(names)
std::string joined(const std::vector<std::string>& names, std::string_view separator = ", ");
// list(axes), such as "['batch', 3]".
std::string axes_text(const std::vector<std::variant<int64_t, std::string>>& axes);

// Cuts the repr of a value as _json.shortened does: at most 60 characters.
std::string shortened(std::string shown);
// text[:count] in characters.
std::string_view first_characters(std::string_view text, size_t count);
// len(text)
size_t character_count(std::string_view text);
// The character that begins at text[at], which `at` is moved behind. A byte that is no UTF-8 is U+DC00 + byte, Python's
// "surrogateescape".
char32_t next_character(std::string_view text, size_t& at);
void append_character(std::string& text, char32_t character);
// text.isprintable()
bool is_printable_text(std::string_view text);
// errors.printable(bytes.decode("utf-8", "backslashreplace"))
std::string printable_text(std::string_view bytes);

// Whether the bytes are UTF-8 in Python's strict sense.
bool is_utf8(std::string_view bytes);
// str(UnicodeDecodeError), or nothing if the bytes are UTF-8.
std::optional<std::string> utf8_error(std::string_view bytes);

// float(text) of a decimal number of JSON's form; infinite if it is too large. Independent of the locale.
double parse_float(std::string_view text);

}  // namespace lstm_edge::device
