// SHA-256 (FIPS 180-4).
#pragma once

#include <array>
#include <cstdint>
#include <string_view>

namespace lstm_edge::device {

std::array<uint8_t, 32> sha256(std::string_view bytes);
// The same by the portable code alone, which a test compares with the processor's instructions.
std::array<uint8_t, 32> sha256_portable(std::string_view bytes);

}  // namespace lstm_edge::device
