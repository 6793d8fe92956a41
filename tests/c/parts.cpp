// The parts of the C library that read cards and golden vectors, for comparisons with Python: text in, JSON text out.
#include <cstring>
#include <string>

#include "card.h"
#include "contract.h"
#include "error.h"
#include "golden.h"
#include "json.h"
#include "text.h"

using namespace lstm_edge::device;

namespace {

json::Value axes_value(const Axes& axes) {
  json::List items;
  for (const Axis& axis : axes) {
    const auto* size = std::get_if<int64_t>(&axis);
    items.push_back(size != nullptr ? json::Value(*size) : json::Value(std::get<std::string>(axis)));
  }
  return json::Value(std::move(items));
}

json::Value text_or_null(const std::optional<std::string>& text) {
  return text.has_value() ? json::Value(*text) : json::Value();
}

json::Value described(const std::vector<TensorSpec>& specs) {
  json::List items;
  for (const TensorSpec& spec : specs) {
    json::Object members;
    members.push_back({"name", json::Value(spec.name)});
    members.push_back({"dtype", json::Value(spec.dtype)});
    members.push_back({"axes", axes_value(spec.axes)});
    items.push_back(json::Value(std::move(members)));
  }
  return json::Value(std::move(items));
}

std::vector<GraphTensor> nodes_of(const json::Value& value) {
  std::vector<GraphTensor> nodes;
  for (const json::Value& item : *value.items()) {
    GraphTensor node{*item.find("name")->text(), *item.find("type")->text(), {}};
    for (const json::Value& axis : *item.find("axes")->items()) {
      if (const int64_t* size = axis.whole()) {
        node.axes.push_back(*size);
      } else {
        node.axes.push_back(*axis.text());
      }
    }
    nodes.push_back(std::move(node));
  }
  return nodes;
}

std::string contract_text(std::string_view request) {
  const json::Value value = json::parse(request);
  std::optional<Card> card;
  if (const std::string* text = value.find("card")->text()) card = parse_card(*text);
  const Contract contract =
      read_contract(nodes_of(*value.find("inputs")), nodes_of(*value.find("outputs")), card ? &*card : nullptr);
  json::List states, shapes;
  for (const StateSpec& state : contract.states) {
    states.push_back(json::Value(state.input));
    json::List shape;
    for (const int64_t size : state_shape(state, 7)) shape.push_back(json::Value(size));
    shapes.push_back(json::Value(std::move(shape)));
  }
  json::Object members;
  members.push_back({"inputs", described(contract.inputs)});
  members.push_back({"outputs", described(contract.outputs)});
  members.push_back({"states", json::Value(std::move(states))});
  members.push_back({"shapes", json::Value(std::move(shapes))});
  members.push_back({"lengths", text_or_null(contract.lengths)});
  members.push_back({"end", text_or_null(contract.end)});
  return json::write(json::Value(std::move(members)));
}

json::Value arrays_value(const Arrays& arrays) {
  constexpr char kHex[] = "0123456789abcdef";
  json::Object members;
  for (const auto& [name, array] : arrays) {
    std::string hex;
    for (size_t i = 0; i < array.bytes(); ++i) {
      hex += kHex[array.data<uint8_t>()[i] >> 4];
      hex += kHex[array.data<uint8_t>()[i] & 15];
    }
    json::List items;
    items.push_back(json::Value(std::string(dtype_name(array.dtype)) + shape_text(array.shape)));
    items.push_back(json::Value(hex));
    members.push_back({name, json::Value(std::move(items))});
  }
  return json::Value(std::move(members));
}

std::string golden_text(std::string_view text) {
  const Golden golden = decode_golden(text);
  json::List vectors;
  for (const GoldenVector& vector : golden.vectors) {
    json::Object strides;
    for (const auto& [name, stride] : vector.strides) strides.push_back({name, json::Value(stride)});
    json::List items;
    items.push_back(arrays_value(vector.inputs));
    items.push_back(arrays_value(vector.outputs));
    items.push_back(json::Value(std::move(strides)));
    vectors.push_back(json::Value(std::move(items)));
  }
  vectors.push_back(json::Value(golden.tolerance_bodies));
  vectors.push_back(json::Value(golden.tolerance_kernels));
  json::Object outputs;
  for (const auto& [name, tolerance] : golden.tolerance_outputs) outputs.push_back({name, json::Value(tolerance)});
  vectors.push_back(json::Value(std::move(outputs)));
  return json::write(json::Value(std::move(vectors)));
}

double float_of(std::string_view bytes) {
  double value = 0;
  std::memcpy(&value, bytes.data(), sizeof value);
  return value;
}

std::string answer(std::string_view part, std::string_view in) {
  if (part == "card") return parse_card(in).json;
  if (part == "contract") return contract_text(in);
  if (part == "golden") return golden_text(in);
  if (part == "read npz") return json::write(arrays_value(read_npz(in, 1 << 20)));
  if (part == "write npz") return write_npz(read_npz(in, 1 << 20));
  if (part == "repr") return repr(in);
  if (part == "ascii") return ascii(in);
  if (part == "repr of bytes") return repr_of_bytes(in);
  if (part == "UTF-8") return utf8_error(in).value_or("");
  if (part == "float") return float_text(float_of(in));
  if (part == "g") return general(float_of(in));
  if (part == ".3g") return general(float_of(in), 3);
  if (part == "shown") return printable_text(in);
  if (part == "printable") return is_printable_text(in) ? "True" : "False";
  fail(LSTM_EDGE_MISUSE, "unknown part");
}

std::string kept;

}  // namespace

// Returns the status; *out is valid until the next call.
extern "C" LSTM_EDGE_API int lstm_edge_part(const char* part, const char* in, size_t size, const char** out,
                                            size_t* out_size) {
  int status = LSTM_EDGE_OK;
  try {
    kept = answer(part, std::string_view(in, size));
  } catch (const Error& error) {
    status = error.status;
    kept = error.message;
  }
  *out = kept.data();
  *out_size = kept.size();
  return status;
}
