// Reading protobuf in one way only: what every reader of the format makes of the bytes, or a refusal; see _protobuf.py,
// which this follows line by line.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

namespace lstm_edge::device {

enum class Kind : uint8_t { kVarint, kFixed32, kFixed64, kBytes, kText, kMessage };

// A field of a message, from _onnx_schema.py. `bars` are the bits of the fields that may not have been given before it.
struct Field {
  const char* name;
  Kind kind;
  int8_t schema;  // index of the schema of the message that it holds, else -1
  bool repeated;
  bool kept;  // whether the checks look at it
  uint32_t bit;
  uint32_t bars;
};

struct Schema {
  const Field* fields;
  uint8_t places[32];  // by the field's number; 0: no such field
};

// One message: the fields that the checks look at, in the file's order, and where its bytes lie. Texts are views of the
// file, which must outlive the message.
struct Message {
  struct Value {
    const Field* field;
    const char* at;   // of a text or a range of bytes; nullptr for a number
    uint64_t number;  // or the bytes of a text or a range, or the place of a message in `children`
  };

  bool has(std::string_view name) const;
  // The first text of a field; empty where there is none, as protobuf has it.
  std::string_view text(std::string_view name) const;
  std::vector<std::string_view> texts(std::string_view name) const;
  // The first number of a field; 0 where there is none.
  uint64_t number(std::string_view name) const;
  std::vector<const Message*> messages(std::string_view name) const;
  // The first range of bytes of a field; its data is nullptr where there is none.
  std::string_view bytes(std::string_view name) const;

  size_t start = 0;
  size_t end = 0;
  std::vector<Value> values;
  std::vector<Message> children;
};

// The numbers of a repeated field, also where they are packed: how many, their product, and the first ones. Nothing is
// allocated, however many there are.
struct Sizes {
  static constexpr size_t kShown = 8;
  uint64_t count = 0;
  uint64_t product = 1;  // UINT64_MAX if it is more
  uint64_t first[kShown] = {};
};
// No numbers where they are torn.
Sizes read_sizes(const Message& message, std::string_view name);

// Reads a serialized ModelProto strictly. Throws LSTM_EDGE_ARTIFACT where the bytes are no message, where readers of
// protobuf would take them in different ways, or where a name is not UTF-8.
Message read_protobuf(std::string_view data);

// Reads a message of a file that read_protobuf accepted once more, to keep the fields that `schema` keeps.
Message read_again(std::string_view data, const Message& message, const Schema& schema);

}  // namespace lstm_edge::device
