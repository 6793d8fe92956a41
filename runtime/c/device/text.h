// Text as the Python command line prints it: numbers, names, one-line errors.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace device_program {

// Appends the fewest digits that read back as the same number, as Python's repr of a float writes them.
void append_number(std::string& text, float value);
void append_number(std::string& text, double value);
// The digits of a float16, which is given as its bits.
void append_float16(std::string& text, uint16_t bits);
// The value of a float16, and the nearest float16 of a value.
double float16_value(uint16_t bits);
uint16_t to_float16(double value);

// Appends a JSON string as Python's json.dumps(..., ensure_ascii=False) writes it.
void append_json_string(std::string& text, std::string_view value);
// Text within quotes, as Python's repr shows a str.
std::string quoted(std::string_view text);
// Thousands separated by commas.
std::string grouped(int64_t value);
// printf with one number, such as "%.3g".
std::string formatted(const char* format, double value);

// Text with each character that a terminal might execute, or that disguises text, as an escape such as \u001b. Names
// come from files that others made.
std::string printable(std::string_view text);
// Writes "error: " and the sentence as one line on standard error.
void print_error(std::string_view sentence);
// Writes all of a text on standard output.
void print(std::string_view text);
// The text with line breaks so that lines have at most 80 columns; further lines are indented by two.
std::string wrapped(std::string_view text);

}  // namespace device_program
