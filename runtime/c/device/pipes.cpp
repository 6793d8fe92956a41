#include "pipes.h"

#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <cstring>

#include "handles.h"

namespace device_program {
namespace {

constexpr size_t kReadBytes = 1 << 16;

volatile std::sig_atomic_t signals_ = 0;
volatile std::sig_atomic_t last_signal_ = 0;

void note_signal(int number) {
  last_signal_ = number;
  signals_ = signals_ + 1;
}

[[noreturn]] void fail_with(const char* what) { throw Failure(2, std::string(what) + ": " + std::strerror(errno)); }

}  // namespace

Pipes::Pipes() {
  std::signal(SIGPIPE, SIG_IGN);
  sigset_t blocked;
  sigemptyset(&blocked);
  for (int number : {SIGINT, SIGTERM}) {
    struct sigaction before{};
    sigaction(number, nullptr, &before);
    // A signal that the process ignores stays ignored, as that of a background job in a shell script.
    if (before.sa_handler == SIG_IGN) continue;
    struct sigaction action{};
    action.sa_handler = note_signal;
    sigaction(number, &action, nullptr);
    sigaddset(&blocked, number);
  }
  sigprocmask(SIG_BLOCK, &blocked, &waiting_);
  sigdelset(&waiting_, SIGINT);
  sigdelset(&waiting_, SIGTERM);
}

void Pipes::wait(bool for_output) {
  pollfd files[] = {{STDOUT_FILENO, short(for_output ? POLLOUT : 0), 0}, {STDIN_FILENO, POLLIN, 0}};
  for (;;) {
    const int before = signals_;
    if (before > (for_output ? 1 : 0)) throw Stopped{last_signal_};
    const int ready = ppoll(files, for_output ? 1 : 2, nullptr, &waiting_);
    if (ready < 0 && errno != EINTR) fail_with("waiting for standard input and output failed");
    if (ready < 0 || signals_ != before) continue;
    if ((files[0].revents & POLLERR) != 0) throw PipeClosed();
    return;
  }
}

bool Pipes::fill() {
  wait(false);
  const size_t used = buffer_.size();
  buffer_.resize(used + kReadBytes);
  ssize_t got;
  do {
    got = ::read(STDIN_FILENO, &buffer_[used], kReadBytes);
    // Another process may have taken what was there from a descriptor that does not wait.
    if (got < 0 && errno == EAGAIN) wait(false);
  } while (got < 0 && (errno == EINTR || errno == EAGAIN));
  buffer_.resize(used + size_t(std::max<ssize_t>(got, 0)));
  if (got < 0) fail_with("standard input cannot be read");
  return got > 0;
}

bool Pipes::read_line(std::string& line, size_t most) {
  line.clear();
  for (;;) {
    const size_t end = buffer_.find('\n', begin_);
    const size_t stop = end == std::string::npos ? buffer_.size() : end + 1;
    // Of a line that is too long the rest is dropped as it comes.
    line.append(buffer_, begin_, std::min(stop - begin_, most + 1 - line.size()));
    begin_ = stop;
    if (end != std::string::npos) return true;
    buffer_.clear();
    begin_ = 0;
    if (!fill()) return !line.empty();
  }
}

size_t Pipes::read_bytes(char* bytes, size_t size) {
  size_t done = 0;
  for (;;) {
    const size_t part = std::min(size - done, buffer_.size() - begin_);
    std::memcpy(bytes + done, buffer_.data() + begin_, part);
    done += part;
    begin_ += part;
    if (done == size) return done;
    buffer_.clear();
    begin_ = 0;
    if (!fill()) return done;
  }
}

void Pipes::write(std::string_view text) {
  while (!text.empty()) {
    wait(true);
    // A pipe with room takes PIPE_BUF bytes at once without waiting; a file or terminal takes everything.
    const ssize_t done = ::write(STDOUT_FILENO, text.data(), std::min<size_t>(text.size(), PIPE_BUF));
    if (done < 0 && errno == EPIPE) throw PipeClosed();
    if (done < 0 && errno != EINTR && errno != EAGAIN) fail_with("standard output cannot be written");
    if (done > 0) text.remove_prefix(size_t(done));
  }
}

}  // namespace device_program
