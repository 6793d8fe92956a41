#include "protobuf.h"

#include <algorithm>
#include <string>
#include <utility>

#include "error.h"
#include "model_limits.h"
#include "onnx_schema.h"
#include "text.h"

namespace lstm_edge::device {
namespace {

constexpr uint32_t kLength = 2, kGroup = 3;  // wire types
constexpr char kAgain[] = R"(write it again with onnx.save(onnx.load("model.onnx"), "again.onnx"))";

// What is wrong, in a sentence; the fields on the way there are added as the readers return, innermost first.
struct Refusal {
  std::string problem;
  bool torn;
  bool ended;  // the bytes end before the value does
  std::vector<std::string> path;
};

[[noreturn]] void refuse(std::string problem) { throw Refusal{std::move(problem), false, false, {}}; }
[[noreturn]] void refuse_torn(std::string problem) { throw Refusal{std::move(problem), true, false, {}}; }
[[noreturn]] void refuse_ended(std::string problem) { throw Refusal{std::move(problem), true, true, {}}; }

uint32_t wire_type(Kind kind) {
  switch (kind) {
    case Kind::kVarint: return 0;
    case Kind::kFixed64: return 1;
    case Kind::kFixed32: return 5;
    default: return kLength;
  }
}

size_t fixed_bytes(uint32_t wire) { return wire == 1 ? 8 : 4; }

// The name of a field for messages, which is only made for a refusal.
struct Name {
  const char* text;
  uint32_t number = 0;  // of a field that onnx.proto does not have
  std::string str() const { return number == 0 ? text : "field " + std::to_string(number); }
};

// A base-128 number as a writer puts it: no needless digit, no more than its 64 (or a tag's 32) bits. Moves `at`.
uint64_t read_number(std::string_view data, size_t& at, size_t end, uint64_t most_digits, const Name& name) {
  const bool wide = most_digits == kMostDigits;
  uint64_t value = 0;
  for (uint64_t place = 0; place < most_digits; ++place) {
    if (at + place >= end) refuse_ended(name.str() + " is cut off");
    const uint64_t digit = static_cast<unsigned char>(data[at + place]);
    const uint64_t bits = digit & 127;
    const bool lost = place == 9 && bits > 1;
    value |= bits << 7 * place;
    if (digit < 128) {
      if (digit == 0 && place != 0) refuse(name.str() + " is a number with a needless digit (padded with zeros)");
      if (wide ? lost : value >> 32 != 0) {
        refuse(name.str() + " is a number of more than " + (wide ? "64" : "32") + " bits");
      }
      at += place + 1;
      return value;
    }
  }
  std::string problem = name.str() + " is a number of more than " + std::to_string(most_digits) + " digits";
  if (wide) refuse_torn(std::move(problem));
  refuse(std::move(problem));
}

[[noreturn]] void refuse_size(const Name& name, uint64_t size, size_t left) {
  refuse_ended(name.str() + " declares " + std::to_string(size) + " bytes where " + std::to_string(left) + " are left");
}

// Moves `at` behind a field that onnx.proto does not have; later versions may have it, and readers skip it.
void skip_unknown(std::string_view data, size_t& at, size_t end, uint32_t tag, const Schema& schema) {
  const uint32_t number = tag >> 3, wire = tag & 7;
  if (number == 0) refuse_torn("a field has the number 0, or bytes follow the last field,");
  if (wire != 0 && wire != 1 && wire != 2 && wire != 5) {
    const std::string where = "field " + std::to_string(number);
    if (wire == kGroup) refuse(where + " is a group (wire type 3), which ONNX does not have,");
    refuse_torn(where + " has the wire type " + std::to_string(wire));
  }
  if (number < sizeof(schema.places) && schema.places[number] != 0) {
    const Field& field = schema.fields[schema.places[number] - 1];
    refuse(std::string(field.name) + " has the wire type " + std::to_string(wire) + ", expected " +
           std::to_string(wire_type(field.kind)) + ",");
  }
  const Name name{nullptr, number};
  if (wire == 0) {
    read_number(data, at, end, kMostDigits, name);
    return;
  }
  const uint64_t size = wire == kLength ? read_number(data, at, end, kMostTagDigits, name) : fixed_bytes(wire);
  if (size > end - at) refuse_size(name, size, end - at);
  at += size;
}

// Reads the messages of one file; `depth_` is how many are open.
class Reader {
 public:
  explicit Reader(std::string_view data) : data_(data) {}

  // Reads the message of these bytes, and notes its fields if there is a message to keep them.
  void message(size_t at, size_t end, const Schema& schema, Message* kept) {
    if (++depth_ > kDeepestMessages) {
      refuse("graphs are nested more than 32 deep, or other messages more than 100,");
    }
    uint32_t given = 0;
    while (at < end) {
      const uint32_t tag = uint32_t(read_number(data_, at, end, kMostTagDigits, {"a tag"}));
      const uint32_t number = tag >> 3, wire = tag & 7;
      const uint8_t place = number < sizeof(schema.places) ? schema.places[number] : 0;
      const Field* field = place == 0 ? nullptr : &schema.fields[place - 1];
      // A repeated field of numbers may be packed.
      if (field == nullptr || (wire != wire_type(field->kind) && !(field->repeated && wire == kLength))) {
        skip_unknown(data_, at, end, tag, schema);
        continue;
      }
      if (given & field->bars) {
        refuse(std::string(field->name) + (given & field->bit
                                               ? " is given twice"
                                               : " is given beside another field of which protobuf keeps only one,"));
      }
      given |= field->bit;
      value(wire, at, end, *field, field->kept ? kept : nullptr);
    }
    --depth_;
  }

 private:
  // Reads a value, notes it in the message, and moves `at` behind its bytes.
  void value(uint32_t wire, size_t& at, size_t end, const Field& field, Message* kept) {
    if (wire == 0) {
      const uint64_t number = read_number(data_, at, end, kMostDigits, {field.name});
      if (kept != nullptr) kept->values.push_back({&field, nullptr, number});
      return;
    }
    uint64_t size = wire == kLength ? read_number(data_, at, end, kMostTagDigits, {field.name}) : fixed_bytes(wire);
    if (size > end - at) {
      if (wire != kLength) refuse_ended(std::string(field.name) + " is cut off");
      refuse_size({field.name}, size, end - at);
    }
    const size_t start = at;
    at += size;
    if (field.schema >= 0) {
      nested(start, at, field, kept);
      return;
    }
    const std::string_view bytes = data_.substr(start, size);
    if (field.kind == Kind::kText && !is_utf8(bytes)) {
      refuse(std::string(field.name) + " is not UTF-8 text (" + repr_of_bytes(bytes.substr(0, 40)) + ")");
    }
    if (kept != nullptr) kept->values.push_back({&field, bytes.data(), size});
  }

  void nested(size_t start, size_t end, const Field& field, Message* kept) {
    try {
      if (kept == nullptr) return message(start, end, kSchemas[field.schema], nullptr);
      Message inner;
      inner.start = start;
      inner.end = end;
      message(start, end, kSchemas[field.schema], &inner);
      kept->values.push_back({&field, nullptr, kept->children.size()});
      kept->children.push_back(std::move(inner));
    } catch (Refusal& refusal) {
      std::string step = field.name;
      if (field.repeated && kept != nullptr) {
        const auto same = [&](const Message::Value& value) { return value.field == &field; };
        const auto before = std::count_if(kept->values.begin(), kept->values.end(), same);
        step += "[" + std::to_string(before) + "]";
      }
      refusal.path.push_back(std::move(step));
      throw;
    }
  }

  std::string_view data_;
  uint64_t depth_ = 0;
};

std::string place(std::vector<std::string> path) {
  if (path.empty()) return "the model";
  std::reverse(path.begin(), path.end());
  if (path.size() > kLongestPath) {
    path.resize(kLongestPath);
    path.emplace_back("..");
  }
  return joined(path, ".");
}

const Message::Value* first_of(const Message& message, std::string_view name) {
  for (const Message::Value& value : message.values) {
    if (value.field->name == name) return &value;
  }
  return nullptr;
}

}  // namespace

bool Message::has(std::string_view name) const { return first_of(*this, name) != nullptr; }

std::string_view Message::text(std::string_view name) const { return bytes(name); }

std::string_view Message::bytes(std::string_view name) const {
  const Value* value = first_of(*this, name);
  return value == nullptr ? std::string_view() : std::string_view(value->at, value->number);
}

std::vector<std::string_view> Message::texts(std::string_view name) const {
  std::vector<std::string_view> found;
  for (const Value& value : values) {
    if (value.field->name == name) found.emplace_back(value.at, value.number);
  }
  return found;
}

uint64_t Message::number(std::string_view name) const {
  const Value* value = first_of(*this, name);
  return value == nullptr ? 0 : value->number;
}

std::vector<const Message*> Message::messages(std::string_view name) const {
  std::vector<const Message*> found;
  for (const Value& value : values) {
    if (value.field->name == name) found.push_back(&children[value.number]);
  }
  return found;
}

Sizes read_sizes(const Message& message, std::string_view name) {
  Sizes sizes;
  bool zero = false;
  const auto add = [&](uint64_t number) {
    if (sizes.count < Sizes::kShown) sizes.first[sizes.count] = number;
    ++sizes.count;
    zero = zero || number == 0;
    if (!zero && __builtin_mul_overflow(sizes.product, number, &sizes.product)) sizes.product = UINT64_MAX;
  };
  for (const Message::Value& value : message.values) {
    if (value.field->name != name) continue;
    if (value.at == nullptr) {
      add(value.number);
      continue;
    }
    const std::string_view packed(value.at, value.number);
    try {
      for (size_t at = 0; at < packed.size();) add(read_number(packed, at, packed.size(), kMostDigits, {name.data()}));
    } catch (const Refusal&) {
      return {};
    }
  }
  if (zero) sizes.product = 0;
  return sizes;
}

Message read_protobuf(std::string_view data) {
  Message model;
  model.end = data.size();
  try {
    Reader(data).message(0, data.size(), kModelSchema, &model);
  } catch (Refusal& refusal) {
    // Every writer of ONNX begins with ir_version, field 1: other files that end early are of another format.
    if (refusal.ended && refusal.path.empty() && data[0] == '\x08') {
      fail(LSTM_EDGE_INTEGRITY, "the file is truncated: " + refusal.problem + "; copy the file again");
    }
    const std::string problem = refusal.problem + " in " + place(std::move(refusal.path));
    if (refusal.torn) {
      fail(LSTM_EDGE_ARTIFACT,
           "onnxruntime cannot read the model: it is not an ONNX file or a damaged one, " + problem);
    }
    fail(LSTM_EDGE_ARTIFACT, "the model cannot be read: " + problem + "; " + kAgain);
  }
  return model;
}

Message read_again(std::string_view data, const Message& message, const Schema& schema) {
  Message again;
  again.start = message.start;
  again.end = message.end;
  Reader(data).message(message.start, message.end, schema, &again);
  return again;
}

}  // namespace lstm_edge::device
