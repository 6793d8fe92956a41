// The command run: a stream between standard input and output.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <string>

#include "commands.h"
#include "pipes.h"
#include "text.h"

namespace device_program {
namespace {

constexpr size_t kLongestLine = size_t(1) << 25;
constexpr size_t kLargestState = size_t(1) << 30;

[[noreturn]] void fail_with(const std::string& path, const char* what) {
  throw Failure(2, path + ": " + what + " (" + std::strerror(errno) + ")");
}

struct File {
  explicit File(int descriptor) : descriptor(descriptor) {}
  ~File() {
    if (descriptor >= 0) ::close(descriptor);
  }
  File(const File&) = delete;
  File& operator=(const File&) = delete;

  int descriptor;
};

// Restores the stream from a file; where there is none it starts at the initial state.
void load_state(lstm_edge_stream* stream, const std::string& path) {
  // Without O_NONBLOCK, opening a pipe waits for a writer.
  const File file(::open(path.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC));
  if (file.descriptor < 0 && errno == ENOENT) return;
  if (file.descriptor < 0) fail_with(path, "the file cannot be read");
  struct stat facts{};
  ::fstat(file.descriptor, &facts);
  if (!S_ISREG(facts.st_mode)) throw Failure(2, path + ": this is no regular file; give the path of an .npz file");
  if (size_t(facts.st_size) > kLargestState) {
    throw Failure(2, path + ": the file has " + grouped(facts.st_size) + " bytes, at most " +
                         grouped(int64_t(kLargestState)) + " are read");
  }
  std::string bytes(size_t(facts.st_size), '\0');
  size_t done = 0;
  while (done < bytes.size()) {
    const ssize_t got = ::read(file.descriptor, &bytes[done], bytes.size() - done);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) fail_with(path, "the file cannot be read");
    if (got == 0) break;
    done += size_t(got);
  }
  const lstm_edge_status status = lstm_edge_stream_restore(stream, bytes.data(), done);
  if (status != LSTM_EDGE_OK) throw Failure(2, path + ": " + lstm_edge_error(), status);
}

// Writes the file beside its place and moves it there: a loss of power leaves the old or the new one.
void save_state(lstm_edge_stream* stream, const std::string& path) {
  const void* bytes = nullptr;
  size_t size = 0;
  check(lstm_edge_stream_save(stream, &bytes, &size));
  const std::string unfinished = path + "." + std::to_string(::getpid()) + ".part";
  const File file(::open(unfinished.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0644));
  if (file.descriptor < 0) fail_with(path, "the file cannot be written");
  size_t done = 0;
  while (done < size) {
    const ssize_t written = ::write(file.descriptor, static_cast<const char*>(bytes) + done, size - done);
    if (written < 0 && errno != EINTR) break;
    if (written > 0) done += size_t(written);
  }
  if (done < size || ::fsync(file.descriptor) != 0 || std::rename(unfinished.c_str(), path.c_str()) != 0) {
    const int reason = errno;
    ::unlink(unfinished.c_str());
    errno = reason;
    fail_with(path, "the file cannot be written");
  }
}

void run_lines(lstm_edge_session* session, lstm_edge_stream* stream, const Arguments& arguments, Pipes& pipes) {
  Lines lines(session, stream, arguments.on_bad_line);
  std::string line;
  for (int64_t number = 1; pipes.read_line(line, kLongestLine); ++number) {
    pipes.write(lines.answer(number, line, kLongestLine));
  }
  if (arguments.state.empty()) pipes.write(lines.finish());
}

void write_raw(Pipes& pipes, const lstm_edge_array* outputs, size_t count) {
  for (size_t i = 0; i < count; ++i) {
    pipes.write(std::string_view(static_cast<const char*>(outputs[i].data), element_count(outputs[i]) * sizeof(float)));
  }
}

void run_raw(lstm_edge_session* session, lstm_edge_stream* stream, const Arguments& arguments, Pipes& pipes) {
  const auto inputs = tensors(session, LSTM_EDGE_INPUTS);
  const auto outputs = tensors(session, LSTM_EDGE_OUTPUTS);
  bool fits = inputs.size() == 1 && inputs[0].dtype == LSTM_EDGE_FLOAT32;
  for (const lstm_edge_tensor& output : outputs) fits = fits && output.dtype == LSTM_EDGE_FLOAT32;
  if (!fits) {
    throw Failure(2, "--raw takes a model with one float32 input and float32 outputs: leave it out and use JSON lines");
  }
  if (arguments.steps > 1 && !has_time(inputs[0])) {
    throw Failure(2, "--steps is " + std::to_string(arguments.steps) + ", but the model's input has no time axis");
  }
  lstm_edge_array piece{};
  fill_shape(inputs[0], arguments.batch_size, arguments.steps, piece);
  std::vector<float> memory(element_count(piece));
  piece.data = memory.data();
  const size_t size = memory.size() * sizeof(float);
  const lstm_edge_array* answer = nullptr;
  for (int64_t number = 1;; ++number) {
    const size_t got = pipes.read_bytes(reinterpret_cast<char*>(memory.data()), size);
    if (got == 0) break;
    if (got < size) {
      throw Failure(2, "the input ends within piece " + std::to_string(number) + ": got " + std::to_string(got) +
                           " bytes, expected " + std::to_string(size));
    }
    const lstm_edge_status status = lstm_edge_stream_push(stream, &piece, 1, &answer);
    if (status != LSTM_EDGE_OK) {
      throw Failure(2, "piece " + std::to_string(number) + ": " + lstm_edge_error(), status);
    }
    write_raw(pipes, answer, outputs.size());
  }
  if (!arguments.state.empty()) return;
  check(lstm_edge_stream_flush(stream, &answer));
  write_raw(pipes, answer, outputs.size());
}

}  // namespace

int run(const Arguments& arguments) {
  // First: the threads of onnxruntime inherit the blocked signals, so that none of them takes one from the wait.
  Pipes pipes;
  const Session session = open_session(arguments.model.c_str(), arguments.session);
  const Stream stream = open_stream(session.get(), arguments.batch_size);
  if (!arguments.state.empty()) load_state(stream.get(), arguments.state);
  int code = 0;
  try {
    if (arguments.raw) {
      run_raw(session.get(), stream.get(), arguments, pipes);
    } else {
      run_lines(session.get(), stream.get(), arguments, pipes);
    }
  } catch (const PipeClosed&) {
    code = 0;
  } catch (const Stopped& stopped) {
    code = 128 + stopped.signal;
  }
  if (!arguments.state.empty()) save_state(stream.get(), arguments.state);
  return code;
}

}  // namespace device_program
