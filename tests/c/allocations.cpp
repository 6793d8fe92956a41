// What a push asks the system for after the first one of a shape: memory and locks, by who asks, or any system call.
//   allocations ONNXRUNTIME MODEL BATCH STEPS WARM PUSHES [sealed | pool]...
// STEPS 0 pushes frames; WARM pushes come first; each hundredth push begins a new sequence. Prints one line of JSON.
// With `sealed`, memory is locked and a system call during the pushes ends the process. With `pool`, BATCH is the
// number of a pool's streams, and pushes of all of them, of every second one and of all but the first, backwards, come
// in turn.
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <optional>

#include "counted.h"
#include "drawn.h"

namespace {

// Says which system call it was, by its number in <sys/syscall.h>.
void end_by_call(int, siginfo_t* signal, void*) {
  char text[64];
  const int length = std::snprintf(text, sizeof(text), "system call %d\n", signal->si_syscall);
  syscall(SYS_write, 2, text, length);
  syscall(SYS_exit_group, 4);
}

// From here on any system call but write and exit_group ends the process. (The strict mode of seccomp also forbids
// reading the clock of the processor, which needs no system call.)
bool seal() {
  struct sigaction action{};
  action.sa_sigaction = end_by_call;
  action.sa_flags = SA_SIGINFO;
  if (sigaction(SIGSYS, &action, nullptr) != 0) return false;
  sock_filter code[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_write, 2, 0),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_exit_group, 1, 0),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRAP),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  const sock_fprog program = {sizeof(code) / sizeof(code[0]), code};
  return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 && prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0;
}

[[noreturn]] void fail(const char* what) {
  std::fprintf(stderr, "%s: %s\n", what, lstm_edge_error());
  std::exit(2);
}

// Pushes to streams of a pool, in the three orders in turn.
class PoolPushes {
 public:
  PoolPushes(lstm_edge_session* session, int64_t streams, int64_t steps) : inputs_(drawn::draw(session, 1, steps)) {
    lstm_edge_pool_options options = LSTM_EDGE_POOL_OPTIONS_INIT;
    options.capacity = streams;
    if (!inputs_.possible || lstm_edge_pool_open(session, &options, &pool_) != LSTM_EDGE_OK) fail("pool");
    for (int64_t i = 0; i < streams; ++i) {
      lstm_edge_pool_piece piece{};
      piece.inputs = inputs_.arrays.data();
      piece.count = inputs_.arrays.size();
      if (lstm_edge_pool_attach(pool_, nullptr, 0, &piece.id) != LSTM_EDGE_OK) fail("attach");
      all_.push_back(piece);
      if (i % 2 == 0) some_.push_back(piece);
    }
    back_.assign(all_.rbegin(), all_.rend() - 1);
  }
  PoolPushes(const PoolPushes&) = delete;
  PoolPushes& operator=(const PoolPushes&) = delete;
  ~PoolPushes() { lstm_edge_pool_close(pool_); }

  bool push() {
    for (std::vector<lstm_edge_pool_piece>* pieces : {&all_, &some_, &back_}) {
      if (lstm_edge_pool_push(pool_, pieces->data(), pieces->size()) != LSTM_EDGE_OK) return false;
      for (const lstm_edge_pool_piece& piece : *pieces) {
        if (piece.status != LSTM_EDGE_OK) return false;
      }
    }
    return true;
  }

 private:
  drawn::Inputs inputs_;
  lstm_edge_pool* pool_ = nullptr;
  std::vector<lstm_edge_pool_piece> all_, some_, back_;
};

}  // namespace

int main(int count, char** arguments) {
  if (count < 7) return 2;
  lstm_edge_options options = LSTM_EDGE_OPTIONS_INIT;
  options.onnxruntime = arguments[1];
  const int64_t batch = std::atoll(arguments[3]), steps = std::atoll(arguments[4]);
  const int warm = std::atoi(arguments[5]), pushes = std::atoi(arguments[6]);
  bool sealed = false, pooled = false;
  for (int i = 7; i < count; ++i) {
    sealed = sealed || std::strcmp(arguments[i], "sealed") == 0;
    pooled = pooled || std::strcmp(arguments[i], "pool") == 0;
  }
  options.lock_memory = sealed;
  lstm_edge_session* session = nullptr;
  const lstm_edge_status opened = lstm_edge_open(arguments[2], &options, &session);
  if (sealed && opened == LSTM_EDGE_MEMORY) return 3;
  if (opened != LSTM_EDGE_OK) fail("open");
  lstm_edge_stream* stream = nullptr;
  if (lstm_edge_stream_open(session, pooled ? 1 : batch, &stream) != LSTM_EDGE_OK) fail("stream");
  drawn::Inputs inputs = drawn::draw(session, pooled ? 1 : batch, steps);
  if (!inputs.possible) return 2;
  std::optional<PoolPushes> pool;
  if (pooled) pool.emplace(session, batch, steps);
  const lstm_edge_array* outputs = nullptr;
  const auto push = [&] {
    if (pool) return pool->push();
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
  if (sealed) {
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
  pool.reset();
  lstm_edge_stream_close(stream);
  lstm_edge_close(session);
  return 0;
}
