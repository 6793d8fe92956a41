#include "card.h"

#include <algorithm>

#include "card_decode.h"
#include "error.h"
#include "text.h"

namespace lstm_edge::device {
namespace {

using json::Value;

constexpr char kBatch[] = "batch";
constexpr size_t kMostVersionDigits = 9;

bool all_digits(std::string_view text) {
  return std::all_of(text.begin(), text.end(), [](char byte) { return byte >= '0' && byte <= '9'; });
}

bool is_version_number(std::string_view text) {
  return !text.empty() && text.size() <= kMostVersionDigits && all_digits(text);
}

// Refuses an unknown major version; returns the minor version.
int64_t check_schema(const Value* schema) {
  if (schema == nullptr || schema->is_null()) fail(LSTM_EDGE_CARD, "model card: card.schema is missing");
  const std::string_view known(card_schema::kSchema);
  const std::string_view known_major = known.substr(0, known.find('.'));
  const std::string* text = schema->text();
  const size_t point = text == nullptr ? std::string::npos : text->find('.');
  if (point == std::string::npos || !is_version_number(std::string_view(*text).substr(0, point)) ||
      !is_version_number(std::string_view(*text).substr(point + 1))) {
    fail(LSTM_EDGE_CARD, "model card: card.schema must be \"major.minor\", got " + json::shown(*schema));
  }
  if (std::string_view(*text).substr(0, point) != known_major) {
    fail(LSTM_EDGE_CARD, "model card: card.schema is " + *text + ", this version reads " + std::string(known_major) +
                             ".x; update lstm-edge to open the file");
  }
  return std::stoll(text->substr(point + 1));
}

// The text of an older scheme as versions now write it: "int4" alone meant blocks of 32.
void replace_stored_scheme(Value* text) {
  if (text != nullptr && text->text() != nullptr && *text->text() == "int4") *text = Value(std::string("int4:32"));
}

Value* member(Value* value, std::string_view key) {
  return value == nullptr ? nullptr : const_cast<Value*>(value->find(key));
}

void replace_stored_schemes(Value& card) {
  replace_stored_scheme(member(&card, "trained_for"));
  Value* parts = member(member(&card, "quantization"), "parts");
  if (parts == nullptr || parts->members() == nullptr) return;
  for (json::Member& part : *std::get<std::unique_ptr<json::Object>>(parts->data)) replace_stored_scheme(&part.value);
}

// What follows reads a card that was checked: every key is there and has its type.
const Value& at(const Value& record, const char* key) { return *record.find(key); }

std::string text_at(const Value& record, const char* key) { return *at(record, key).text(); }

std::optional<std::string> optional_text_at(const Value& record, const char* key) {
  const std::string* text = at(record, key).text();
  return text == nullptr ? std::nullopt : std::optional<std::string>(*text);
}

int64_t whole_of(const Value& value) {
  if (const int64_t* whole = value.whole()) return *whole;
  return value.large()->digits[0] == '-' ? INT64_MIN : INT64_MAX;
}

Axes axes_at(const Value& record) {
  Axes axes;
  for (const Value& axis : *at(record, "axes").items()) {
    if (const std::string* name = axis.text()) {
      axes.emplace_back(*name);
    } else {
      axes.emplace_back(whole_of(axis));
    }
  }
  return axes;
}

TensorSpec tensor_of(const Value& value) {
  TensorSpec spec;
  spec.name = text_at(value, "name");
  spec.dtype = text_at(value, "dtype");
  spec.axes = axes_at(value);
  if (const json::List* range = at(value, "range").items()) {
    spec.range.emplace();
    for (const Value& end : *range) spec.range->push_back(*end.number());
  }
  return spec;
}

std::vector<TensorSpec> tensors_at(const Value& card, const char* key) {
  std::vector<TensorSpec> specs;
  for (const Value& value : *at(card, key).items()) specs.push_back(tensor_of(value));
  return specs;
}

StateSpec state_of(const Value& value) {
  StateSpec spec;
  spec.input = text_at(value, "input");
  spec.output = text_at(value, "output");
  spec.kind = text_at(value, "kind");
  spec.module = text_at(value, "module");
  spec.layer = whole_of(at(value, "layer"));
  spec.axes = axes_at(value);
  spec.nonnegative = *at(value, "nonnegative").flag();
  spec.counts = *at(value, "counts").flag();
  spec.dtype = text_at(value, "dtype");
  return spec;
}

Streaming streaming_of(const Value& value) {
  Streaming streaming;
  streaming.verdict = text_at(value, "verdict");
  streaming.reason = text_at(value, "reason");
  streaming.latency_steps = whole_of(at(value, "latency_steps"));
  streaming.first = whole_of(at(value, "first"));
  streaming.first_gives = whole_of(at(value, "first_gives"));
  streaming.every = whole_of(at(value, "every"));
  streaming.gives = whole_of(at(value, "gives"));
  streaming.end = optional_text_at(value, "end");
  return streaming;
}

FrontEnd front_end_of(const Value& value) {
  FrontEnd front_end;
  front_end.input = text_at(value, "input");
  front_end.text = text_at(value, "text");
  front_end.rate_hz = whole_of(at(value, "rate_hz"));
  front_end.first = whole_of(at(value, "first"));
  front_end.every = whole_of(at(value, "every"));
  return front_end;
}

void read_quantization(Card& card, const Value& value) {
  card.quantized = !value.is_null();
  const json::Object* inexact = card.quantized ? at(value, "inexact").members() : nullptr;
  card.inexact_known = inexact != nullptr;
  if (inexact == nullptr) return;
  for (const json::Member& output : *inexact) card.inexact.push_back(output.key);
}

Card card_of(const Value& value) {
  Card card;
  card.task = text_at(value, "task");
  card.inputs = tensors_at(value, "inputs");
  card.outputs = tensors_at(value, "outputs");
  for (const Value& state : *at(value, "states").items()) card.states.push_back(state_of(state));
  card.lengths = optional_text_at(value, "lengths");
  card.streaming = streaming_of(at(value, "streaming"));
  if (const json::List* tokens = at(value, "vocabulary").items()) {
    for (const Value& token : *tokens) card.vocabulary.push_back(*token.text());
  }
  if (!at(value, "front_end").is_null()) card.front_end = front_end_of(at(value, "front_end"));
  read_quantization(card, at(value, "quantization"));
  card.minimum_onnxruntime = text_at(value, "minimum_onnxruntime");
  card.json = json::write(value);
  return card;
}

Value parse_document(std::string_view text) {
  if (const auto characters = int64_t(character_count(text)); characters > json::kMostCharacters) {
    fail(LSTM_EDGE_CARD, "model card: " + std::to_string(characters) + " characters, at most " +
                             std::to_string(json::kMostCharacters) + " are read");
  }
  try {
    return json::parse(text);
  } catch (const json::Refused& refused) {
    fail(LSTM_EDGE_CARD, "model card: not a JSON document (" + refused.message + ")");
  }
}

}  // namespace

Card parse_card(std::string_view text) {
  Value document = parse_document(text);
  if (document.members() == nullptr) {
    fail(LSTM_EDGE_CARD, std::string("model card: card must be an object, got ") + json::type_name(document));
  }
  const int64_t minor = check_schema(document.find("schema"));
  Value card = decode_record(card_schema::kModelCard, std::move(document), "card", minor);
  replace_stored_schemes(card);
  return card_of(card);
}

std::optional<int64_t> batch_factor(const Axis& axis) {
  const auto* name = std::get_if<std::string>(&axis);
  if (name == nullptr) return std::nullopt;
  if (*name == kBatch) return 1;
  constexpr size_t kStart = sizeof kBatch;  // of the digits behind "batch*"
  const bool product = name->size() > kStart && name->size() <= kStart + 9 && name->compare(0, kStart, "batch*") == 0;
  if (!product || (*name)[kStart] == '0' || !all_digits(std::string_view(*name).substr(kStart))) return std::nullopt;
  return std::stoll(name->substr(kStart));
}

}  // namespace lstm_edge::device
