#include "direct_operators.h"

#include "direct_tensors.h"

namespace lstm_edge::device {

bool DirectOperator::only_renames(const Inputs&) const { return false; }
bool DirectOperator::needs_constant(size_t) const { return false; }

std::unique_ptr<const DirectOperator> make_direct_operator(std::string_view data, const Message& node) {
  auto made = node.texts("input").size() == 2 ? make_arithmetic(node.text("op_type")) : nullptr;
  return made != nullptr ? std::move(made) : make_rearrangement(data, node);
}

}  // namespace lstm_edge::device
