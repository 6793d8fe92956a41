// What a push asks the system for after the first one of a shape: memory and locks, by who asks, or any system call.
//   allocations ONNXRUNTIME MODEL BATCH STEPS WARM PUSHES [sealed]
// STEPS 0 pushes frames; WARM pushes come first; each hundredth push begins a new sequence. Prints one line of JSON.
// With `sealed`, a system call during the pushes ends the process.
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "counted.h"
#include "drawn.h"

namespace {

// From here on any system call but write and exit_group ends the process with SIGSYS. (The strict mode of seccomp also
// forbids reading the clock of the processor, which needs no system call.)
bool seal() {
  sock_filter code[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_write, 2, 0),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_exit_group, 1, 0),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  const sock_fprog program = {sizeof(code) / sizeof(code[0]), code};
  return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 && prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0;
}

[[noreturn]] void fail(const char* what) {
  std::fprintf(stderr, "%s: %s\n", what, lstm_edge_error());
  std::exit(2);
}

}  // namespace

int main(int count, char** arguments) {
  if (count < 7) return 2;
  lstm_edge_options options = LSTM_EDGE_OPTIONS_INIT;
  options.onnxruntime = arguments[1];
  lstm_edge_session* session = nullptr;
  if (lstm_edge_open(arguments[2], &options, &session) != LSTM_EDGE_OK) fail("open");
  const int64_t batch = std::atoll(arguments[3]), steps = std::atoll(arguments[4]);
  const int warm = std::atoi(arguments[5]), pushes = std::atoi(arguments[6]);
  lstm_edge_stream* stream = nullptr;
  if (lstm_edge_stream_open(session, batch, &stream) != LSTM_EDGE_OK) fail("stream");
  drawn::Inputs inputs = drawn::draw(session, batch, steps);
  if (!inputs.possible) return 2;
  const lstm_edge_array* outputs = nullptr;
  const auto push = [&] {
    return lstm_edge_stream_push(stream, inputs.arrays.data(), inputs.arrays.size(), &outputs) == LSTM_EDGE_OK;
  };
  const auto push_all = [&] {
    bool good = true;
    for (int i = 0; i < pushes; ++i) {
      good = good && push();
      if (i % 100 == 99) good = good && lstm_edge_stream_reset(stream) == LSTM_EDGE_OK;
    }
    return good;
  };
  for (int i = 0; i < warm; ++i) {
    if (!push()) fail("push");
  }
  counted::find_regions();
  if (counted::onnxruntime.end == 0 || counted::program.end == 0) fail("onnxruntime was not found in memory");
  if (count > 7) {
    if (!seal()) return 3;
    const bool good = push_all();
    const char* said = good ? "{\"sealed\": true}\n" : "{\"sealed\": false}\n";
    syscall(SYS_write, 1, said, std::strlen(said));
    syscall(SYS_exit_group, good ? 0 : 2);
  }
  counted::counting = true;
  const bool good = push_all();
  counted::counting = false;
  if (!good) fail("push");
  const counted::Counts &requests = counted::requests, &locks = counted::locks;
  std::printf(
      "{\"ours\": %ld, \"onnxruntime\": %ld, \"others\": %ld, \"locks_ours\": %ld, \"locks_onnxruntime\": %ld, "
      "\"locks_others\": %ld}\n",
      requests.ours, requests.onnxruntime, requests.others, locks.ours, locks.onnxruntime, locks.others);
  lstm_edge_stream_close(stream);
  lstm_edge_close(session);
  return 0;
}
