# Swing to a model, reload, watch, then commit or go back. A process of its own: if the agent dies, this one puts the old
# model back; if this one dies, the agent does. Arguments: those of swing.
swing "$@"
while [ -z "$decision" ]; do
  check_agent
  pause
done
[ "$decision" = commit ] || check_agent
commit
