usage() {
  printf '%s\n' "usage: sh install.sh [--trial | --commit | --back] [FOLDER]" \
    "Installs the model $label in FOLDER, by default $root." \
    "--trial leaves it on trial; --commit then keeps it, --back puts the old model back."
}

mode=install
while [ $# -gt 0 ]; do
  case $1 in
    --trial | --commit | --back) mode=${1#--} ;;
    -h | --help)
      usage
      exit 0
      ;;
    -*)
      usage >&2
      exit 2
      ;;
    *) root=$1 ;;
  esac
  shift
done
case $0 in
  */*) here=${0%/*} ;;
  *) here=. ;;
esac
set -- install.sh "$root"
