# Write standard input to models/NAME.part. Argument: NAME.
part=$root/models/$1.part
# A new file: a connection that was lost may still hold the old one open.
rm -f "$part"
cat >"$part" && flush "$part" || {
  rm -f "$part"
  fail "the file could not be written to $root/models"
}
say received
