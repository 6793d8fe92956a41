// A struct of two versions in the hands of libraries and callers of either: versioned.h.
#include <cstdio>
#include <cstdlib>

#include "lstm_edge.h"
#include "versioned.h"

namespace {

using lstm_edge::device::Error;
using lstm_edge::device::read_struct;
using lstm_edge::device::write_struct;

struct First {
  size_t size;
  int32_t threads, reserved;
};
struct Second {
  size_t size;
  int32_t threads, reserved;
  double rate;
};
// A caller that was compiled with a version that no library here knows.
struct Third {
  Second second;
  double more;
};
constexpr size_t kFirst = sizeof(First);

void expect(bool right, const char* what) {
  if (right) return;
  std::fprintf(stderr, "%s\n", what);
  std::exit(1);
}

template <typename Work>
void expect_refused(const Work& work, const char* part) {
  try {
    work();
  } catch (const Error& error) {
    expect(error.status == LSTM_EDGE_MISUSE && error.message.find(part) != std::string::npos, error.message.c_str());
    return;
  }
  expect(false, part);
}

template <typename Struct, typename Given>
Struct& as(Given& given) {
  return reinterpret_cast<Struct&>(given);
}

void read() {
  const Second defaults = {sizeof(Second), 1, 0, 200};
  First old = {sizeof(First), 4, 0};
  const Second from_old = read_struct(as<Second>(old), kFirst, defaults, "options");
  expect(from_old.threads == 4 && from_old.rate == 200 && from_old.size == sizeof(Second), "a default is missing");
  Second same = {sizeof(Second), 4, 0, 50};
  expect(read_struct(same, kFirst, defaults, "options").rate == 50, "a field was not read");
  Third newer = {{sizeof(Third), 4, 0, 50}, 0};
  expect(read_struct(newer.second, kFirst, defaults, "options").rate == 50, "zeros behind were not accepted");
  newer.more = 1;
  expect_refused([&] { read_struct(newer.second, kFirst, defaults, "options"); },
                 "options has 32 bytes, this library knows 24, and those behind are not zero");
  for (size_t size : {size_t{0}, kFirst - 1, size_t{1025}, SIZE_MAX}) {
    same.size = size;
    expect_refused([&] { read_struct(same, kFirst, defaults, "options"); }, "expected 16 to 1024: set it to sizeof");
  }
}

void write() {
  const Second known = {sizeof(Second), 4, 0, 50};
  struct {
    First first;
    double behind;
  } old = {{sizeof(First), 0, 0}, 7};
  write_struct(known, kFirst, as<Second>(old), "info");
  expect(old.first.threads == 4 && old.first.size == sizeof(First), "a field was not filled");
  expect(old.behind == 7, "written past the end of the caller's struct");
  Third newer = {{sizeof(Third), 0, 0, 0}, 7};
  write_struct(known, kFirst, newer.second, "info");
  expect(newer.second.rate == 50 && newer.more == 0 && newer.second.size == sizeof(Third), "not filled to its end");
  newer.second.size = 8;
  expect_refused([&] { write_struct(known, kFirst, newer.second, "info"); }, "info.size is 8, expected 16 to 1024");
}

}  // namespace

int main() {
  read();
  write();
  return 0;
}
