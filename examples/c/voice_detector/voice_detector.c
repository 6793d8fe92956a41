/* Prints where somebody speaks in a WAV file: voice_detector MODEL.onnx SPEECH.wav
 *
 * The model takes 512 new samples with the 64 samples before them and gives the probability of speech.
 */
#include <lstm_edge.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { RATE = 16000, FRAME = 512, CONTEXT = 64, SILENT_FRAMES = 6 };
static const float BEGINS = 0.5f, ENDS = 0.35f; /* a higher threshold to begin than to end keeps words together */

static void fail(const char* what, const char* why) {
  fprintf(stderr, "error: %s: %s\n", what, why);
  exit(2);
}

static void check(lstm_edge_status status, const char* what) {
  if (status != LSTM_EDGE_OK) fail(what, lstm_edge_error());
}

static uint32_t number(const unsigned char* bytes, int count) {
  uint32_t value = 0;
  while (count > 0) value = value << 8 | bytes[--count];
  return value;
}

/* Leaves the file at its first sample; returns the number of bytes of samples. */
static uint32_t find_samples(FILE* file, const char* path) {
  unsigned char head[16];
  int known = 0;
  if (fread(head, 12, 1, file) != 1 || memcmp(head, "RIFF", 4) != 0 || memcmp(head + 8, "WAVE", 4) != 0) {
    fail(path, "this is no WAV file");
  }
  while (fread(head, 8, 1, file) == 1) {
    uint32_t size = number(head + 4, 4);
    if (memcmp(head, "data", 4) == 0) {
      if (!known) fail(path, "the samples come before their format");
      return size;
    }
    if (memcmp(head, "fmt ", 4) == 0 && size >= 16 && fread(head, 16, 1, file) == 1) {
      known =
          number(head, 2) == 1 && number(head + 2, 2) == 1 && number(head + 4, 4) == RATE && number(head + 14, 2) == 16;
      if (!known) fail(path, "expected one channel, 16,000 samples a second, 16 bits");
      size -= 16;
    }
    if (fseek(file, (long)size + (long)(size & 1), SEEK_CUR) != 0) break;
  }
  fail(path, "the file has no samples");
  return 0;
}

/* Reads the next frame after its context; returns whether there was a sample. Zeros fill the last frame. */
static int next_frame(FILE* file, uint32_t* left, float* x) {
  unsigned char bytes[2 * FRAME];
  memmove(x, x + FRAME, CONTEXT * sizeof *x);
  memset(x + CONTEXT, 0, FRAME * sizeof *x);
  size_t wanted = *left < sizeof bytes ? *left : sizeof bytes;
  size_t got = fread(bytes, 2, wanted / 2, file);
  *left -= (uint32_t)(2 * got);
  for (size_t i = 0; i < got; ++i) x[CONTEXT + i] = (float)(int16_t)number(bytes + 2 * i, 2) / 32768.0f;
  return got > 0;
}

int main(int count, char** words) {
  if (count != 3) fail("usage", "voice_detector MODEL.onnx SPEECH.wav");
  lstm_edge_session* session = NULL;
  lstm_edge_stream* stream = NULL;
  check(lstm_edge_open(words[1], NULL, &session), words[1]);
  check(lstm_edge_check(session, NULL), words[1]);
  check(lstm_edge_stream_open(session, 1, &stream), words[1]);

  FILE* file = fopen(words[2], "rb");
  if (file == NULL) fail(words[2], "the file cannot be opened");
  uint32_t left = find_samples(file, words[2]);
  float x[CONTEXT + FRAME] = {0};
  lstm_edge_array frame = {.dtype = LSTM_EDGE_FLOAT32, .rank = 1, .shape = {CONTEXT + FRAME}, .data = x};
  int speaks = 0, silent = 0;
  double begin = 0, now = 0;
  while (next_frame(file, &left, x)) {
    const lstm_edge_array* outputs;
    check(lstm_edge_stream_push(stream, &frame, 1, &outputs), words[2]);
    const float probability = *(const float*)outputs[0].data;
    if (!speaks && probability >= BEGINS) {
      speaks = 1;
      begin = now;
    }
    silent = probability < ENDS ? silent + 1 : 0;
    now += (double)FRAME / RATE;
    if (speaks && silent >= SILENT_FRAMES) {
      printf("%.2f s to %.2f s\n", begin, now - (double)(SILENT_FRAMES * FRAME) / RATE);
      speaks = 0;
    }
  }
  if (speaks) printf("%.2f s to %.2f s\n", begin, now);
  fclose(file);
  lstm_edge_stream_close(stream);
  lstm_edge_close(session);
  return 0;
}
