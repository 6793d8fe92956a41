# Find the program that runs models: Python's before the C program.
for command in lstm-edge "${HOME:-}/.local/bin/lstm-edge" /usr/local/bin/lstm-edge lstm-edge-device \
  /usr/local/bin/lstm-edge-device; do
  if command -v "$command" >/dev/null 2>&1; then
    say found "$command"
    exit
  fi
done
fail "there is neither lstm-edge nor lstm-edge-device in PATH ($PATH); name it with --device-command"
