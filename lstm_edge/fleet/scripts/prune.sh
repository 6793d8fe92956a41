# Remove models, oldest first, until so many are left. Argument: number to keep. Links keep what they name.
lock
used=" "
for link in current previous trial; do
  target=$(target_of "$root/$link")
  used="$used${target##*/} "
done
kept=0
[ -d "$root/models" ] || { unlock; say end; exit; }
cd "$root/models" || fail "$root/models cannot be read"
# Those that a link names count among the kept ones.
for name in *.onnx; do
  case $used in *" $name "*) kept=$((kept + 1)) ;; esac
done
for name in $(ls -t); do
  case $name in
    *.onnx.part | *.onnx.sig.part) rm -f "./$name"; continue ;;
    *.onnx) ;;
    *) continue ;;
  esac
  stem=${name%.onnx}
  [ ${#stem} = 64 ] || continue
  case $stem in *[!0-9a-f]*) continue ;; esac
  case $used in *" $name "*) continue ;; esac
  if [ "$kept" -lt "$1" ]; then kept=$((kept + 1)); continue; fi
  rm -f "./$name" "./$name.sig" || fail "$root/models/$name cannot be removed"
  say removed "$stem"
done
unlock
say end
