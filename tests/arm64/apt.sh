# Defines unpack_arm64; setup.sh and board.sh read this file.

# unpack_arm64 ROOT PACKAGE...: unpack arm64 packages of Debian and what they depend on, by an apt state of our own: the
# system's dpkg and apt stay untouched. No script of a package runs.
unpack_arm64() {
  local root=$1 state apt package
  shift
  state=$(mktemp -d)
  mkdir -p "$state/lists/partial" "$state/cache/archives/partial"
  : > "$state/status"
  apt=(apt-get -q -o APT::Architecture=arm64 -o APT::Architectures::=arm64 -o Dir::State="$state"
       -o Dir::State::status="$state/status" -o Dir::Cache="$state/cache" -o Acquire::Languages=none
       -o APT::Sandbox::User="$(id -un)" -o APT::Install-Recommends=false)
  for _ in 1 2 3; do "${apt[@]}" update && break; sleep 5; done  # a mirror may be mid-sync
  "${apt[@]}" install -y --download-only "$@"
  for package in "$state"/cache/archives/*.deb; do dpkg-deb -x "$package" "$root"; done
  rm -rf "$state"
}
