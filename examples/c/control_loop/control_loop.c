/* Balances a simulated rod with a recurrent policy, 200 steps a second: control_loop MODEL.onnx SECONDS
 *
 * The policy sees the angle and its own last torque, and answers with the next torque.
 */
#define _GNU_SOURCE
#include <lstm_edge.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { RATE_HZ = 200, SECOND = 1000000000 };

typedef struct rod {
  double angle, speed; /* from upright, in radians and radians a second */
} rod;

static void check(lstm_edge_status status) {
  if (status == LSTM_EDGE_OK) return;
  fprintf(stderr, "error: %s\n", lstm_edge_error());
  exit(2);
}

static int64_t now_ns(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return (int64_t)time.tv_sec * SECOND + time.tv_nsec;
}

static void sleep_until(int64_t when) {
  struct timespec time = {.tv_sec = when / SECOND, .tv_nsec = when % SECOND};
  while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &time, NULL) != 0) {
  }
}

/* One step of the rod: gravity tips it over, the torque holds it, a push comes now and then. */
static void balance(rod* it, double torque, int step) {
  const double push = step % (2 * RATE_HZ) == RATE_HZ ? 0.5 : 0.0;
  it->speed += (9.81 * sin(it->angle) + 20.0 * torque) / RATE_HZ + push;
  it->angle += it->speed / RATE_HZ;
}

int main(int count, char** words) {
  if (count != 3 || atoi(words[2]) < 1) {
    fprintf(stderr, "usage: control_loop MODEL.onnx SECONDS\n");
    return 2;
  }
  lstm_edge_options options = LSTM_EDGE_OPTIONS_INIT;
  options.lock_memory = getenv("LOCK_MEMORY") != NULL; /* needs CAP_IPC_LOCK or a high limit */
  lstm_edge_session* session = NULL;
  lstm_edge_stream* stream = NULL;
  check(lstm_edge_open(words[1], &options, &session));
  check(lstm_edge_check(session, NULL));
  check(lstm_edge_stream_open(session, 1, &stream));

  float observation[2] = {0};
  lstm_edge_array input = {.dtype = LSTM_EDGE_FLOAT32, .rank = 1, .shape = {2}, .data = observation};
  const lstm_edge_array* outputs;
  check(lstm_edge_stream_push(stream, &input, 1, &outputs)); /* the first push allocates */
  check(lstm_edge_stream_reset(stream));

  rod it = {.angle = 0.1};
  const int steps = atoi(words[2]) * RATE_HZ;
  int missed = 0;
  int64_t slowest = 0;
  double sum = 0, torque = 0;
  int64_t due = now_ns();
  for (int step = 0; step < steps; ++step) {
    sleep_until(due);
    const int64_t begin = now_ns();
    observation[0] = (float)it.angle;
    observation[1] = (float)torque;
    check(lstm_edge_stream_push(stream, &input, 1, &outputs));
    torque = fmin(fmax(*(const float*)outputs[0].data, -1), 1);
    balance(&it, torque, step);
    sum += fabs(it.angle);
    const int64_t end = now_ns();
    if (end - begin > slowest) slowest = end - begin;
    due += SECOND / RATE_HZ;
    if (end > due) {
      ++missed; /* late: the next step starts on time again */
      while (due < end) due += SECOND / RATE_HZ;
    }
  }
  printf("%d steps, %d missed deadlines, slowest step %.1f us, mean angle %.4f rad\n", steps, missed,
         (double)slowest / 1000, sum / steps);
  lstm_edge_stream_close(stream);
  lstm_edge_close(session);
  return 0;
}
