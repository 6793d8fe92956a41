#include "conditions.h"

#include <cstring>

namespace lstm_edge::device {
namespace {

void copy(const std::vector<Array>& from, std::vector<Array>& to) {
  for (size_t k = 0; k < from.size(); ++k) {
    std::memcpy(to[k].data<void>(), from[k].data<void>(), from[k].bytes());
  }
}

}  // namespace

Conditions::Conditions(const PieceReader& reader) {
  for (size_t k = 0; k < reader.conditions.size(); ++k) {
    const lstm_edge_dtype dtype = dtype_of(reader.contract.inputs[reader.conditions[k]].dtype);
    live.emplace_back(dtype, reader.condition_shapes[k]);
    held_.emplace_back(dtype, reader.condition_shapes[k]);
  }
}

void Conditions::accept() {
  copy(live, held_);
  holds_ = true;
}

void Conditions::refuse() { copy(held_, live); }

void Conditions::set(const std::vector<Array>& arrays) {
  copy(arrays, live);
  copy(arrays, held_);
  holds_ = !arrays.empty();
}

}  // namespace lstm_edge::device
