# Holds the lock for a whole deploy and reads orders: beat, try LINK, commit, end. The end of the input, or silence, ends
# the deploy: an unfinished trial is put back. Arguments: reload command, health command, seconds to watch, for a step,
# for a health command and of silence, and the text of trial.sh.
reload=$1 health=$2 watch_seconds=$3 step_seconds=$4 health_seconds=$5 silence_seconds=$6 trial_text=$7
worker=
silence=

# A long silence kills this process. The trial sees that within a second and puts the old model back.
expect_a_beat() {
  [ -z "$silence" ] || kill -KILL "$silence" 2>/dev/null
  after "$silence_seconds" kill -KILL $$
  silence=$timer
}

# A trial that was killed cannot put the old model back itself.
end_trial() {
  [ -n "$worker" ] || return 0
  wait "$worker" 2>/dev/null || {
    say stopped "the trial was killed"
    return_to_old
    say returned
  }
  worker=
}

hold
say current "$(target_of "$root/current")"
say previous "$(target_of "$root/previous")"
say ready
expect_a_beat
while read -r order link; do
  expect_a_beat
  [ -z "$worker" ] || started "$worker" >/dev/null || end_trial
  case $order in
    try)
      sh -c "$trial_text" lstm-edge "$token" "$root" "$me" "$link" "$reload" "$health" "$watch_seconds" \
        "$step_seconds" "$health_seconds" </dev/null &
      worker=$!
      ;;
    commit) kill -USR1 "$worker" ;;
    end) break ;;
  esac
done
[ -z "$worker" ] || kill -TERM "$worker" 2>/dev/null
end_trial
kill -KILL "$silence" 2>/dev/null
unlock
say ended
