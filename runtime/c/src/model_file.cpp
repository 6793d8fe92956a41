#include "model_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "error.h"
#include "file_kinds.h"
#include "function_check.h"
#include "model_limits.h"
#include "model_reading.h"
#include "sha256.h"
#include "stored_matrices.h"
#include "text.h"

namespace lstm_edge::device {
namespace {

constexpr uint64_t kPiece = 1 << 16;  // what is read at once where the file system does not know the size

class Descriptor {
 public:
  explicit Descriptor(int number) : number(number) {}
  ~Descriptor() { ::close(number); }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;

  const int number;
};

// The text of a system error, independent of the locale: liblstm_edge never sets one.
std::string system_error(int error) { return std::strerror(error); }

[[noreturn]] void fail_to_read(const std::string& path, const std::string& reason) {
  fail(LSTM_EDGE_ARTIFACT, path + ": the file cannot be read (" + reason + ")");
}

int open_to_read(const std::string& path) {
  if (path.find('\0') != std::string::npos) fail_to_read(path, "embedded null byte");
  int number;
  do {
    number = ::open(path.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC);  // without O_NONBLOCK a pipe waits for a writer
  } while (number < 0 && errno == EINTR);
  if (number >= 0) return number;
  if (errno == ENOENT) fail(LSTM_EDGE_ARTIFACT, (path.empty() ? "''" : path) + ": no such file");
  fail_to_read(path, system_error(errno));
}

// Reads up to `size` more bytes behind the text; returns how many there were, 0 at the end of the file.
uint64_t read_more(const Descriptor& file, const std::string& path, std::string& text, uint64_t size) {
  const size_t before = text.size();
  text.resize(before + size);
  ssize_t count;
  do {
    count = ::read(file.number, &text[before], size);
  } while (count < 0 && errno == EINTR);
  if (count < 0) fail_to_read(path, system_error(errno));
  text.resize(before + size_t(count));
  return uint64_t(count);
}

bool is_cut_trailer(std::string_view tail) {
  const size_t fixed = std::min(tail.size(), kTrailerPrefix.size());
  return tail.substr(0, fixed) == kTrailerPrefix.substr(0, fixed) &&
         tail.substr(fixed).find_first_not_of("0123456789abcdef") == std::string_view::npos;
}

}  // namespace

std::string read_model_bytes(const std::string& path) {
  const Descriptor file(open_to_read(path));
  struct stat facts;
  if (::fstat(file.number, &facts) != 0) fail_to_read(path, system_error(errno));
  if (!S_ISREG(facts.st_mode)) {
    const std::string what = S_ISDIR(facts.st_mode) ? "a directory" : "a device or a pipe";
    fail(LSTM_EDGE_ARTIFACT, path + ": this is " + what + "; give the path of an .onnx file");
  }
  const uint64_t size = uint64_t(facts.st_size);
  if (size > kMostModelBytes) {
    fail(LSTM_EDGE_ARTIFACT, path + ": the file has " + std::to_string(size) + " bytes; an ONNX file has at most " +
                                 std::to_string(kMostModelBytes));
  }
  std::string data;
  data.reserve(std::max(size + 1, kPiece));
  // Reading one byte more than the size shows whether the file ends there.
  while (true) {
    const uint64_t left = kMostModelBytes + 1 - data.size();
    const uint64_t wanted = data.size() < size + 1 ? size + 1 - data.size() : kPiece;
    if (read_more(file, path, data, std::min(left, wanted)) == 0) break;
    if (data.size() > kMostModelBytes) {
      fail_to_read(path,
                   "the file has more than " + with_commas(kMostModelBytes) + " bytes, at most that many are read");
    }
  }
  if (data.empty()) fail(LSTM_EDGE_ARTIFACT, path + ": the file is empty; an .onnx file was expected");
  check_kind(data, path);
  return data;
}

std::string sha256_hex(std::string_view bytes) {
  constexpr char kHex[] = "0123456789abcdef";
  std::string text;
  for (uint8_t byte : sha256(bytes)) {
    text += kHex[byte >> 4];
    text += kHex[byte & 15];
  }
  return text;
}

bool check_integrity(std::string_view bytes) {
  const size_t size = std::min<size_t>(bytes.size(), kTrailerBytes);
  const std::string_view body = bytes.substr(0, bytes.size() - size), trailer = bytes.substr(bytes.size() - size);
  uint64_t matches = 0;
  for (size_t i = 0; i < std::min(size, kTrailerPrefix.size()); ++i) matches += trailer[i] == kTrailerPrefix[i];
  if (size == kTrailerBytes && matches >= kLeastTrailerMatches) {
    if (trailer.substr(0, kTrailerPrefix.size()) != kTrailerPrefix ||
        trailer.substr(kTrailerPrefix.size()) != sha256_hex(body)) {
      fail(LSTM_EDGE_INTEGRITY,
           "the file is damaged: its SHA-256 differs from the one in its integrity trailer; copy the file again");
    }
    return true;
  }
  const std::string_view least = kTrailerPrefix.substr(0, kLeastTrailerPrefix);
  for (size_t start = trailer.find(least); start != std::string_view::npos; start = trailer.find(least, start + 1)) {
    if (!is_cut_trailer(trailer.substr(start))) continue;
    fail(LSTM_EDGE_INTEGRITY, "the file is truncated: only " + std::to_string(size - start) + " of the " +
                                  std::to_string(kTrailerBytes) +
                                  " bytes of its integrity trailer are present; copy the file again");
  }
  return false;
}

CheckedModel check_model(std::string_view bytes) {
  CheckedModel model;
  model.verified = check_integrity(bytes);
  auto reading = std::make_shared<ModelReading>(read_model(bytes));
  check_functions(*reading);
  check_whole(*reading);
  for (const auto& [key, value] : reading->metadata) model.metadata.emplace(key, value);
  if (model.verified && model.metadata.count(kTrailerKey) == 0) {
    fail(LSTM_EDGE_INTEGRITY,
         "the file's integrity trailer is not metadata of the model but lies inside another of its fields: "
         "make the file again with the tool that wrote it");
  }
  model.operators = called_operators(*reading);
  model.reading = std::move(reading);
  return model;
}

void check_bodies(std::string_view bytes, const CheckedModel& model) {
  check_column_sums(bytes, *model.reading);
  check_sparse_matrices(bytes, *model.reading);
}

}  // namespace lstm_edge::device
