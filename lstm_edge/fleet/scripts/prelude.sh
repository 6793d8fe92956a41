# Functions of every script on a device. POSIX shell (dash, busybox ash, bash) with the basic utilities; Linux's /proc.
# Each script runs as: sh -c TEXT lstm-edge TOKEN ROOT ARGUMENTS...
set -u
LC_ALL=C
export LC_ALL
trap : PIPE # a lost connection must not end a script before it has put the old model back
token=$1
root=$2
shift 2
count=0
decision=

# A line for the caller. The token tells it from the output of the user's commands.
say() { printf '%s %s\n' "$token" "$*"; }

fail() {
  say failed "$*"
  exit 1
}

flush() { sync "$1"; } # an old sync ignores the name and flushes everything

# Rename over a symbolic link. An old busybox has no -T; it is not needed there, because no target is a folder.
rename() { mv -fT "$1" "$2" 2>/dev/null || mv -f "$1" "$2"; }

# Field 22 of /proc/PID/stat, the start time; nothing for a process that does not exist or is a zombie.
started() {
  line=$(cat "/proc/$1/stat" 2>/dev/null) || return 1
  set -- ${line##*) }
  [ "$1" != Z ] && [ "$1" != X ] && printf %s "${20}"
}

# Process number, start time and boot: no other process ever has the same name.
boot=$(cat /proc/sys/kernel/random/boot_id 2>/dev/null) || boot=none
me=$$.$(started $$).$boot

# Whether the process of a name exists.
alive() {
  pid=${1%%.*}
  rest=${1#*.}
  [ "${rest#*.}" = "$boot" ] && [ "$(started "$pid")" = "${rest%%.*}" ]
}

# Each job has an entry of its own and then looks for others: of two jobs at least one sees the other. An entry whose
# process does not exist is stale and may be removed by anybody.
lock() {
  mkdir -p "$root/locks" || fail "the folder $root/locks cannot be made"
  tries=0
  while :; do
    (: >"$root/locks/$me") || fail "the folder $root/locks cannot be written"
    other=
    for entry in "$root"/locks/*; do
      name=${entry##*/}
      case $name in "$me" | "*") continue ;; esac
      if alive "$name"; then other=$name; else rm -f "$entry"; fi
    done
    [ -z "$other" ] && return
    rm -f "$root/locks/$me"
    tries=$((tries + 1))
    [ "$tries" -lt 4 ] || fail "another deploy works on $root (process ${other%%.*} of the device)"
    sleep $(($$ % 3 + 1))
  done
}

unlock() { rm -f "$root/locks/$me"; }

# Kill every process that has this mark in its environment.
kill_marked() {
  for file in $(grep -ls "LSTM_EDGE_STEP=$1" /proc/[0-9]*/environ 2>/dev/null); do
    pid=${file#/proc/}
    kill -KILL "${pid%/environ}" 2>/dev/null
  done
}

# Seconds since the start of the device; the clock may be set at any time.
now() {
  read -r up _ </proc/uptime
  printf %s "${up%%.*}"
}

# after SECONDS COMMAND...: start a timer, which `kill -KILL` ends. It sleeps by the second, so that no long sleep is
# left. A trapped signal would not do: dash loses one that comes before a child has removed its parent's traps.
after() {
  (
    left=$1
    shift
    while [ "$left" -gt 0 ]; do
      sleep 1
      left=$((left - 1))
    done
    "$@"
  ) </dev/null >/dev/null 2>&1 &
  timer=$!
}

# limited SECONDS COMMAND: run a command line; status 124 if it took longer, 125 if the caller decided to abort. What
# it started is killed then, also what left its process group.
limited() {
  count=$((count + 1))
  mark=$me.$count.
  begun=$(now)
  LSTM_EDGE_STEP=$mark sh -c "$2" </dev/null &
  child=$!
  after $(($1 + 1)) kill_marked "$mark"
  wait "$child" 2>/dev/null
  status=$?
  kill -KILL "$timer" 2>/dev/null
  wait "$timer" 2>/dev/null
  [ "$(($(now) - begun))" -le "$1" ] || status=124
  [ "$decision" != abort ] || status=125
  case $status in 124 | 125) kill_marked "$mark" ;; esac
  return "$status"
}

# What a link names, or "none".
target_of() { readlink "$1" || printf none; }

# End an unfinished trial: one rename puts the old model back.
put_back() {
  [ -L "$root/trial" ] || return 0
  if [ "$(readlink "$root/trial")" = none ]; then
    rm -f "$root/current" && rm -f "$root/trial"
  else
    rename "$root/trial" "$root/current"
  fi && flush "$root"
}

# Put the old model back and let the service load it. The agent and the trial set reload and step_seconds.
return_to_old() {
  put_back || {
    say failed "the old model could not be put back"
    return 1
  }
  [ -z "$reload" ] || limited "$step_seconds" "$reload" 2>&1 || say reload-failed "$status"
}

# Take the lock, and put back an unfinished trial. The caller sets reload and step_seconds.
hold() {
  [ -L "$root/current" ] || [ ! -e "$root/current" ] || fail "$root/current exists and is not a symbolic link: move it away"
  [ ! -d "$root/current" ] || fail "$root/current names a folder: remove the link"
  lock
  if [ -L "$root/trial" ]; then
    return_to_old || exit 1
    say recovered
  fi
}
