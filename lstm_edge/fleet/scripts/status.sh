# Say what a device has; changes nothing.
say current "$(target_of "$root/current")"
say previous "$(target_of "$root/previous")"
[ ! -L "$root/trial" ] || say trial "$(readlink "$root/trial")"
if [ -f "$root/current" ]; then
  digest=$(sha256sum <"$root/current") && say digest "${digest%% *}"
fi
for entry in "$root"/locks/*; do
  name=${entry##*/}
  [ "$name" = "*" ] || ! alive "$name" || say busy
done
for file in "$root"/models/*.onnx; do
  [ -f "$file" ] && say model "${file##*/}"
done
say end
