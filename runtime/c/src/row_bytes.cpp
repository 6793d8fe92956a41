#include "row_bytes.h"

#include <algorithm>

#include "json.h"
#include "text.h"

namespace lstm_edge::device {
namespace {

constexpr uint32_t kBase = 1000000000;  // nine digits a limb, the lowest first
constexpr size_t kLimbDigits = 9;
constexpr size_t kMostDigits = 4300;  // of an integer that Python prints

using Limbs = std::vector<uint32_t>;

Limbs limbs_of(std::string_view digits) {
  Limbs limbs;
  for (size_t end = digits.size(); end > 0;) {
    const size_t start = end > kLimbDigits ? end - kLimbDigits : 0;
    limbs.push_back(uint32_t(std::stoul(std::string(digits.substr(start, end - start)))));
    end = start;
  }
  return limbs;
}

Limbs multiplied(const Limbs& a, const Limbs& b) {
  Limbs limbs(a.size() + b.size());
  for (size_t i = 0; i < a.size(); ++i) {
    uint64_t carry = 0;
    for (size_t j = 0; j < b.size() || carry != 0; ++j) {
      const uint64_t sum = limbs[i + j] + carry + (j < b.size() ? uint64_t(a[i]) * b[j] : 0);
      limbs[i + j] = uint32_t(sum % kBase);
      carry = sum / kBase;
    }
  }
  while (limbs.size() > 1 && limbs.back() == 0) limbs.pop_back();
  return limbs;
}

std::string digits_of(const Limbs& limbs) {
  std::string digits;
  for (size_t i = limbs.size(); i-- > 0;) {
    const std::string limb = std::to_string(limbs[i]);
    if (!digits.empty()) digits += std::string(kLimbDigits - limb.size(), '0');
    digits += limb;
  }
  return digits;
}

std::string shown_whole(std::string digits) {
  return digits.size() > kMostDigits ? "a int" : shortened(std::move(digits));
}

const json::Value& axes_in(const json::Value& document, const char* field, size_t index) {
  return *(*document.find(field)->items())[index].find("axes");
}

int64_t size_of(const Axis& axis) {
  const auto* size = std::get_if<int64_t>(&axis);
  return size == nullptr ? batch_factor(axis).value_or(1) : std::max<int64_t>(*size, 1);
}

}  // namespace

int64_t row_bytes(const Axes& axes, int64_t item_bytes) {
  int64_t bytes = item_bytes;
  for (const Axis& axis : axes) {
    if (__builtin_mul_overflow(bytes, size_of(axis), &bytes)) return INT64_MAX;
  }
  return bytes;
}

std::string product(const std::vector<std::string>& factors) {
  Limbs limbs = {1};
  for (const std::string& factor : factors) limbs = multiplied(limbs, limbs_of(factor));
  return digits_of(limbs);
}

std::string shown_axes(const Card& card, const char* field, size_t index) {
  const json::Value document = json::parse(card.json, false);
  return json::shown(axes_in(document, field, index));
}

std::string shown_row_bytes(const Card& card, const char* field, size_t index) {
  const json::Value document = json::parse(card.json, false);
  std::vector<std::string> factors = {"4"};
  for (const json::Value& axis : *axes_in(document, field, index).items()) {
    if (const json::LargeInteger* large = axis.large()) {
      if (large->digits[0] != '-') factors.push_back(large->digits);
    } else {
      const int64_t* size = axis.whole();
      factors.push_back(std::to_string(size_of(size == nullptr ? Axis(*axis.text()) : Axis(*size))));
    }
  }
  return shown_whole(product(factors));
}

std::string shown_streaming(const Card& card, const char* field) {
  const json::Value document = json::parse(card.json, false);
  return json::shown(*document.find("streaming")->find(field));
}

}  // namespace lstm_edge::device
