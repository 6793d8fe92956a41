#!/usr/bin/env bash
# Fuzz what the C library reads, under AddressSanitizer and UndefinedBehaviorSanitizer: trailer, protobuf, card, golden
# vectors, archives (fuzz_target.cpp). With clang's libFuzzer where there is one, else with fuzz_driver.cpp and g++.
#   fuzz.sh PYTHON [SECONDS [SEED]]   PYTHON: one with the project and its export extra; SECONDS without the build
# Only the readers are compiled, two files at a time; the objects stay in .cache/c/fuzz, each named after the content of
# its sources. An input that ends the process is kept in .cache/c-fuzz-crash; `.cache/c-fuzz-driver INPUT` runs it again.
set -euo pipefail
[ $# -ge 1 ] || { echo "usage: $0 PYTHON [SECONDS [SEED]]" >&2; exit 2; }
python=$(command -v "$1")
case $python in /*) ;; *) python=$PWD/$python ;; esac
seconds=${2:-60}
seed=${3:-0}
cd "$(dirname "$0")/../.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$python" tests/c/make_corpus.py seeds "$work/seeds"
crash=$PWD/.cache/c-fuzz-crash
mkdir -p .cache/c/fuzz
rm -f "$crash"*
readers=(array base64 card card_decode card_schema file_kinds function_check golden json json_parse model_file model_reading npy npz
  printable protobuf row_bytes sha256 sparse_index stored_matrices text zip_archive zip_directory)
zlib=(adler32 crc32 inffast inflate inftrees uncompr zutil)
includes=(-Iruntime/c/include -Iruntime/c/src -Iruntime/c/third_party -Iruntime/c/third_party/zlib)
checks=(-O1 -g1 -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer
  -DZ_PREFIX -DDYNAMIC_CRC_TABLE -DHAVE_UNISTD_H)
headers=$(cat runtime/c/include/lstm_edge.h runtime/c/src/*.h runtime/c/third_party/zlib/*.h | sha256sum)

# 1: the compiler; 2: a source; the rest: flags. Compiles it where its object is missing, and prints the object's path.
compiled() {
  local source=$2 language=-std=c++17 name
  case $source in *.c) language=-xc ;; esac
  name=$(basename "$source")-$({ echo "$headers" "$@"; "$1" --version; cat "$source"; } | sha256sum | cut -c1-24).o
  if [ ! -e ".cache/c/fuzz/$name" ]; then
    "$1" "$language" "${includes[@]}" "${@:3}" -c "$source" -o "$work/$name" && mv "$work/$name" ".cache/c/fuzz/$name"
  fi
  echo ".cache/c/fuzz/$name"
}
# 1: the compiler; the rest: flags of the readers. Leaves their objects in the array `objects`.
compile_readers() {
  local name compiler=$1 running=0
  shift
  for name in "${readers[@]/#/runtime/c/src/}" "${zlib[@]/#/runtime/c/third_party/zlib/}"; do
    case $name in */zlib/*) name=$name.c ;; *) name=$name.cpp ;; esac
    { compiled "$compiler" "$name" "${checks[@]}" "$@" > "$work/$(basename "$name").path" || touch "$work/failed"; } &
    running=$((running + 1))
    if [ $running -ge 2 ]; then wait -n; running=$((running - 1)); fi
  done
  wait
  if [ -e "$work/failed" ]; then exit 1; fi
  mapfile -t objects < <(cat "$work"/*.path)
  find .cache/c/fuzz -name '*.o' -mtime +14 -delete
}

export ASAN_OPTIONS=detect_leaks=1:allocator_may_return_null=0:max_allocation_size_mb=1024:hard_rss_limit_mb=3000
export UBSAN_OPTIONS=print_stacktrace=1
started=$SECONDS
if echo 'extern "C" int LLVMFuzzerTestOneInput(const char*, unsigned long) { return 0; }' |
   clang++ -fsanitize=fuzzer,address -x c++ - -o "$work/probe" 2> /dev/null; then
  compile_readers clang++ -fsanitize=fuzzer-no-link
  target=$(compiled clang++ tests/c/fuzz_target.cpp "${checks[@]}" -fsanitize=fuzzer-no-link)
  clang++ "${checks[@]}" -fsanitize=fuzzer "$target" "${objects[@]}" -o "$work/fuzz"
  echo "compiled in $((SECONDS - started)) s"
  "$work/fuzz" "$work/seeds" -max_total_time="$seconds" -seed="$((seed + 1))" -timeout=20 -rss_limit_mb=3000 \
    -max_len=65536 -artifact_prefix="$crash-" -print_final_stats=1 -verbosity=0
else
  compile_readers g++ -fsanitize-coverage=trace-pc
  target=$(compiled g++ tests/c/fuzz_target.cpp "${checks[@]}")
  driver=$(compiled g++ tests/c/fuzz_driver.cpp "${checks[@]}")
  g++ "${checks[@]}" "$target" "$driver" "${objects[@]}" -o "$work/fuzz"
  echo "compiled in $((SECONDS - started)) s"
  cp "$work/fuzz" .cache/c-fuzz-driver
  "$work/fuzz" "$work/seeds" "$seconds" "$seed" "$crash"
fi
