# Make a temporary folder with models/, and remove it at the end of the input or after a silence, with what runs in it.
# Argument: seconds of silence.
silence_seconds=$1
silence=
folder=$(mktemp -d "${TMPDIR:-/tmp}/lstm-edge-XXXXXX") || fail "no temporary folder can be made on the device"

# A file may be written into it at the same moment: then the second try removes that too.
clean() {
  kill_marked "$folder"
  rm -rf "$folder" 2>/dev/null || {
    sleep 1
    rm -rf "$folder"
  }
}

expire() {
  clean
  kill -KILL $$
}

expect_a_beat() {
  [ -z "$silence" ] || kill -KILL "$silence" 2>/dev/null
  after "$silence_seconds" expire
  silence=$timer
}

trap 'exit 1' HUP INT TERM
trap clean EXIT
mkdir "$folder/models" || fail "$folder cannot be written"
say folder "$folder"
expect_a_beat
while read -r order && [ "$order" = beat ]; do expect_a_beat; done
kill -KILL "$silence" 2>/dev/null
trap - EXIT
clean
[ -e "$folder" ] || say removed
