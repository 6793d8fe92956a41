#include "model_reading.h"

#include <functional>
#include <unordered_map>
#include <unordered_set>

#include "error.h"
#include "model_limits.h"
#include "text.h"

namespace lstm_edge::device {
namespace {

constexpr std::string_view kStandard = "ai.onnx";  // the other name of the domain ""
constexpr std::string_view kOrtFormat = "ORTM";
constexpr char kAgain[] = "make the file again with the tool that wrote it";

std::string_view standard(std::string_view domain) { return domain == kStandard ? std::string_view() : domain; }

// Where a walk is: a field of a message, that of an outer place. The text is only made for a message.
struct Place {
  const Place* outer;
  const char* field;
  int64_t index = -1;  // -1: the field is given once

  std::string text() const {
    std::string text = outer == nullptr ? "" : outer->text() + ".";
    text += field;
    return index < 0 ? text : text + "[" + std::to_string(index) + "]";
  }
};

// Python's operator_of. Its `where` and `index` are a place and the index of the place's node, or -1.
Operator operator_of(const Message& message, const char* name, const Place& where, int64_t index = -1) {
  const Operator found{message.text("domain"), message.text(name), message.text("overload")};
  const std::pair<const char*, std::string_view> texts[] = {
      {"domain", found.domain}, {name, found.name}, {"overload", found.overload}};
  for (const auto& [field, text] : texts) {
    if (is_printable_text(text)) continue;
    const std::string place = index < 0 ? where.text() : Place{&where, "node", index}.text();
    fail(LSTM_EDGE_ARTIFACT, std::string("the model cannot be read: ") + field + " holds a control character (" +
                                 repr(first_characters(text, 40)) + ") in " + place + "; " + kAgain);
  }
  return {standard(found.domain), found.name, found.overload};
}

// Refuses the first name that was there before.
template <typename Text>
void check_once(const std::vector<Text>& names, const char* what, const Place& where) {
  if (names.size() < 2) return;
  std::unordered_set<std::string_view> seen;
  for (const Text& name : names) {
    if (seen.insert(name).second) continue;
    fail(LSTM_EDGE_ARTIFACT, std::string("the model cannot be read: ") + what + " " + repr(first_characters(name, 80)) +
                                 " is given twice in " + where.text() + "; " + kAgain);
  }
}

std::vector<std::string_view> texts_of(const std::vector<const Message*>& messages, std::string_view name) {
  std::vector<std::string_view> texts;
  texts.reserve(messages.size());
  for (const Message* message : messages) texts.push_back(message->text(name));
  return texts;
}

// Refuses two versions of one domain; the same version may be given twice.
void check_opsets(const Message& owner, const Place& where) {
  std::unordered_map<std::string_view, uint64_t> versions;
  for (const Message* entry : owner.messages("opset_import")) {
    const std::string_view domain = standard(entry->text("domain"));
    const uint64_t given = entry->number("version");
    const uint64_t version = versions.emplace(domain, given).first->second;
    if (version != given) {
      fail(LSTM_EDGE_ARTIFACT, "the model cannot be read: the domain " + repr(first_characters(domain, 80)) +
                                   " is imported in the versions " + std::to_string(version) + " and " +
                                   std::to_string(given) + " in " + where.text() + "; " + kAgain);
    }
  }
}

// Walks through graphs and their subgraphs, and collects calls and tensors whose values are in another file.
class Walk {
 public:
  void graph(const Message& graph, const Place& where, uint64_t depth, std::vector<Operator>& calls) {
    if (depth > kDeepestNesting) {
      fail(LSTM_EDGE_ARTIFACT, "the model nests graphs more than " + std::to_string(kDeepestNesting) + " deep");
    }
    ++graphs;
    tensors(graph, "initializer", where);
    sparse(graph, "sparse_initializer", where);
    nodes(graph, where, depth, calls);
  }

  void nodes(const Message& body, const Place& where, uint64_t depth, std::vector<Operator>& calls) {
    int64_t index = 0;
    for (const Message* node : body.messages("node")) {
      calls.push_back(operator_of(*node, "op_type", where, index));
      if (node->has("attribute")) attributes(*node, "attribute", Place{&where, "node", index}, depth, calls);
      ++index;
    }
  }

  void attributes(const Message& owner, const char* field, const Place& where, uint64_t depth,
                  std::vector<Operator>& calls) {
    const std::vector<const Message*> attributes = owner.messages(field);
    if (attributes.size() > 1) check_once(texts_of(attributes, "name"), "attribute", where);
    int64_t index = 0;
    for (const Message* attribute : attributes) {
      const Place path{&where, field, index++};
      tensors(*attribute, "t", path);
      tensors(*attribute, "tensors", path);
      sparse(*attribute, "sparse_tensor", path);
      sparse(*attribute, "sparse_tensors", path);
      for (const Message* inner : attribute->messages("g")) graph(*inner, Place{&path, "g"}, depth + 1, calls);
      int64_t place = 0;
      for (const Message* inner : attribute->messages("graphs")) {
        graph(*inner, Place{&path, "graphs", place++}, depth + 1, calls);
      }
    }
  }

  std::vector<std::string> external;
  uint64_t graphs = 0;

 private:
  void tensors(const Message& owner, const char* field, const Place& where) {
    int64_t index = 0;
    for (const Message* tensor : owner.messages(field)) {
      if (tensor->has("external_data") || tensor->number("data_location") != 0) {
        external.push_back(Place{&where, field, index}.text());
      }
      ++index;
    }
  }

  void sparse(const Message& owner, const char* field, const Place& where) {
    int64_t index = 0;
    for (const Message* tensor : owner.messages(field)) {
      const Place path{&where, field, index++};
      for (const char* part : {"values", "indices"}) tensors(*tensor, part, path);
    }
  }
};

constexpr Place kModel{nullptr, "the model"};

}  // namespace

size_t OperatorHash::operator()(const Operator& one) const {
  const std::hash<std::string_view> hash;
  size_t mixed = hash(one.domain);
  for (std::string_view text : {one.name, one.overload}) mixed = mixed * 0x9E3779B97F4A7C15u + hash(text);
  return mixed;
}

CallCounts count_calls(const std::vector<Operator>& calls) {
  CallCounts counts;
  std::unordered_map<Operator, size_t, OperatorHash> places;
  for (const Operator& call : calls) {
    const auto [place, added] = places.emplace(call, counts.size());
    if (added) counts.emplace_back(call, 0);
    ++counts[place->second].second;
  }
  return counts;
}

std::string identifier(const Operator& operation) {
  std::string key;
  key.append(operation.domain).append(":").append(operation.name).append(":").append(operation.overload);
  if (key.back() == ':') key.pop_back();
  return key;
}

ModelReading read_model(std::string_view data) {
  if (data.size() >= 8 && data.substr(4, 4) == kOrtFormat) {
    fail(LSTM_EDGE_ARTIFACT,
         "the model is in onnxruntime's own format (.ort): use the .onnx file that it was converted from");
  }
  ModelReading reading;
  reading.model = read_protobuf(data);
  const Message& model = reading.model;
  check_opsets(model, kModel);
  Walk walk;
  for (const Message* graph : model.messages("graph")) walk.graph(*graph, Place{nullptr, "graph"}, 0, reading.calls);
  std::vector<std::string> identifiers;
  for (const Message* body : model.messages("functions")) {
    const Place where{nullptr, "functions", int64_t(reading.functions.size())};
    check_opsets(*body, where);
    std::vector<Operator> called;
    walk.nodes(*body, where, 0, called);
    walk.attributes(*body, "attribute_proto", where, 0, called);
    reading.functions.push_back(
        {operator_of(*body, "name", where), data.substr(body->start, body->end - body->start), count_calls(called)});
    identifiers.push_back(identifier(reading.functions.back().operation));
  }
  std::vector<Operator> unused;  // onnxruntime does not run these graphs
  int64_t index = 0;
  for (const Message* training : model.messages("training_info")) {
    const Place where{nullptr, "training_info", index++};
    for (const char* name : {"initialization", "algorithm"}) {
      for (const Message* graph : training->messages(name)) walk.graph(*graph, Place{&where, name}, 0, unused);
    }
  }
  check_once(identifiers, "function", kModel);
  const std::vector<const Message*> metadata = model.messages("metadata_props");
  check_once(texts_of(metadata, "key"), "metadata entry", kModel);
  for (const Message* entry : metadata) reading.metadata.emplace_back(entry->text("key"), entry->text("value"));
  reading.external = std::move(walk.external);
  reading.graphs = walk.graphs;
  return reading;
}

}  // namespace lstm_edge::device
