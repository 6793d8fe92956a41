# Functions that swing the link to a model and then commit or go back. Signals: USR1 commits, TERM aborts.
trap 'decision=abort' TERM HUP INT
trap 'decision=commit' USR1

pause() {
  sleep 1 </dev/null >/dev/null 2>&1 &
  wait $!
}

stop() {
  trap : TERM HUP INT USR1
  decision=
  say stopped "$*"
  [ ! -L "$root/trial" ] || return_to_old
  unlock
  say returned
  exit 0
}

check_agent() {
  [ "$decision" != abort ] || stop "the deploy was stopped"
  alive "$agent" || stop "the connection was lost"
}

# The sentence about a command's status.
why() {
  if [ "$2" = 124 ]; then printf '%s' "the $1 command took longer than $3 s and was killed"; else
    printf '%s' "the $1 command failed (exit code $2)"
  fi
}

# Swing to a model, reload, and watch. Arguments: name of the agent's process, link, reload command, health command,
# seconds to watch, for a step and for a health command.
swing() {
  agent=$1 link=$2 reload=$3 health=$4 watch_seconds=$5 step_seconds=$6 health_seconds=$7
  (: >"$root/locks/$me") || fail "the folder $root/locks cannot be written"
  old=$(target_of "$root/current")
  { rm -f "$root/trial.new" "$root/current.new" && ln -s "$old" "$root/trial.new" && ln -s "$link" "$root/current.new" &&
    rename "$root/trial.new" "$root/trial"; } || stop "the links cannot be written"
  flush "$root"
  check_agent
  rename "$root/current.new" "$root/current" || stop "the link current cannot be written"
  flush "$root"
  say swung
  if [ -n "$reload" ]; then
    check_agent
    limited "$step_seconds" "$reload" 2>&1 || {
      status=$?
      check_agent
      stop "$(why reload "$status" "$step_seconds")"
    }
    say reloaded
  fi
  if [ -n "$health" ]; then
    end=$(($(now) + watch_seconds))
    while :; do
      check_agent
      limited "$health_seconds" "$health" 2>&1 || {
        status=$?
        check_agent
        stop "$(why health "$status" "$health_seconds")"
      }
      say healthy
      [ "$(now)" -lt "$end" ] || break
      pause
    done
  fi
  say watched
}

# End a trial: the old model becomes the previous one. Variables: old and link.
commit() {
  if [ "$old" = none ]; then rm -f "$root/trial"; else rename "$root/trial" "$root/previous"; fi ||
    stop "the link previous cannot be written"
  flush "$root"
  touch -c "$root/$link" 2>/dev/null # the order of prune
  unlock
  say committed
  exit 0
}
