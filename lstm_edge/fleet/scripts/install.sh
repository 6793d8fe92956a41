# Install the model of a bundle. What comes before this text sets the variables of the bundle and defines the functions.
link=models/$sha256.onnx
LSTM_EDGE_MODEL=$root/$link
LSTM_EDGE_SIGNATURE=$root/$link.sig.part
export LSTM_EDGE_MODEL LSTM_EDGE_SIGNATURE
agent=$me
outcome=1
trap 'unlock; exit "$outcome"' EXIT

complain() {
  printf 'install.sh: %s\n' "$*" >&2
  [ -z "${RAUC_BUNDLE_MOUNT_POINT:-}" ] || printf '<< error %s\n' "$*" # what RAUC shows as the reason
}

# The words of the functions as sentences.
say() {
  word=$1
  shift
  case $word in
    found) printf '%s\n' "$*" ;;
    absent | damaged | present) printf '%s\n' "$word" ;;
    failed | stopped) complain "$*" ;;
    returned)
      case ${old-} in
        none) printf 'install.sh: no model is current, as before\n' >&2 ;;
        *) printf 'install.sh: the old model is back\n' >&2 ;;
      esac
      ;;
    reload-failed) printf 'install.sh: the reload of the old model failed (exit code %s)\n' "$1" >&2 ;;
    recovered) printf 'install.sh: a trial was not finished; the old model was put back first\n' >&2 ;;
    committed) succeed "is current" ;;
  esac
}

succeed() {
  outcome=0
  printf '%s: %s %s\n' "$root" "$label" "$*"
}

is_current() { [ "$(target_of "$root/current")" = "$link" ]; }

# Copy a file of the bundle to models/NAME.part and compare its digest. Arguments: file, NAME, SHA-256.
copy() {
  [ -r "$here/$1" ] || fail "$here/$1 is missing: the bundle is not whole"
  receive "$2" <"$here/$1" || exit 1
}

check() {
  [ -n "$device_command" ] || device_command=$(locate) || exit 1
  limited "$step_seconds" "$device_command check --kernels required$check_options \"\$LSTM_EDGE_MODEL\"" 2>&1 || {
    status=$?
    check_agent
    fail "$(why check "$status" "$step_seconds")"
  }
}

install() {
  hold
  state=$(examine "$sha256.onnx" "$sha256") || exit 1
  if [ "$state" != present ]; then
    copy "$model" "$sha256.onnx"
    finish "$sha256.onnx" "$sha256" || exit 1
  fi
  # A new signature replaces the one of a model that is served only after the check.
  [ -z "$signature" ] || copy "$signature" "$sha256.onnx.sig"
  check
  [ -z "$signature" ] || finish "$sha256.onnx.sig" "$signature_sha256" || exit 1
  if is_current; then
    succeed "was current already"
    exit
  fi
  [ "$mode" = trial ] || decision=commit
  swing "$me" "$link" "$reload" "$health" "$watch_seconds" "$step_seconds" "$health_seconds"
  check_agent
  if [ "$mode" = trial ]; then
    succeed "is on trial"
    exit
  fi
  commit
}

# Keep a model that is on trial.
keep() {
  lock
  is_current || fail "$label is not current any more"
  if [ -L "$root/trial" ]; then
    old=$(target_of "$root/trial")
    commit
  fi
  succeed "is current"
}

# Put the old model back, unless this model is not on trial.
back() {
  lock
  if [ -L "$root/trial" ] && is_current; then
    return_to_old || exit 1
    succeed "was put back"
  else
    succeed "is not on trial"
  fi
}

case $mode in
  install | trial) install ;;
  commit) keep ;;
  back) back ;;
esac
