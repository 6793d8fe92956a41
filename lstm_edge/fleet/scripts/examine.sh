# Whether models/NAME is there and whole. Arguments: NAME, SHA-256 of the file.
mkdir -p "$root/models" || fail "the folder $root/models cannot be made"
file=$root/models/$1
[ -f "$file" ] || { say absent; exit; }
digest=$(sha256sum <"$file") || fail "$file cannot be read"
if [ "${digest%% *}" = "$2" ]; then say present; else say damaged; fi
