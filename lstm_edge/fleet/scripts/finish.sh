# Give models/NAME.part its name if its digest is right. Arguments: NAME, SHA-256 of the file.
part=$root/models/$1.part
digest=$(sha256sum <"$part") || fail "$part cannot be read"
[ "${digest%% *}" = "$2" ] || {
  rm -f "$part"
  fail "the file arrived with SHA-256 ${digest%% *}, expected $2"
}
rename "$part" "$root/models/$1" || fail "$part cannot be renamed"
flush "$root/models"
say finished
