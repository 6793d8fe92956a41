// Bytes of one row of a tensor, and the axes of a card in their full size, for messages.
#pragma once

#include <string>

#include "card.h"

namespace lstm_edge::device {

// The product of all fixed sizes above 0 (1 for a name, 3 for "batch*3") and of the bytes of an element; INT64_MAX if
// it is larger.
int64_t row_bytes(const Axes& axes, int64_t item_bytes);

// Integers of a card may be larger than an int64_t: these read Card.json again, and give text as _json.shortened does.
// `field` is "inputs", "outputs" or "states".
std::string shown_axes(const Card& card, const char* field, size_t index);
// row_bytes of float32 elements.
std::string shown_row_bytes(const Card& card, const char* field, size_t index);
std::string shown_streaming(const Card& card, const char* field);

// The digits of the product of non-negative decimal numbers, of any size.
std::string product(const std::vector<std::string>& factors);

}  // namespace lstm_edge::device
