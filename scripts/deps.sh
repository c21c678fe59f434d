#!/usr/bin/env bash
# Installs the Debian packages that the named groups need and that are missing; asks nothing and is
# quick when all is there. Usage: deps.sh GROUP...   (groups: build test python lint bench)
set -euo pipefail

declare -A packages=(
  # The library and the command line.
  [build]="g++ cmake ninja-build libcli11-dev libfmt-dev nlohmann-json3-dev libopenblas-pthread-dev"
  # Also the tests, the second compiler with its fuzzer, the cross compiler and the emulators.
  [test]="python3 ccache binutils googletest libgtest-dev libgmock-dev librapidcheck-dev
          clang libclang-rt-14-dev g++-aarch64-linux-gnu qemu-user"
  # The wheel and its tests; the rest comes from PyPI into environments under build/.
  [python]="python3-dev python3-venv ccache"
  [lint]="clang clang-format clang-tidy"
  [bench]="python3 libbenchmark-dev python3-matplotlib"
)

wanted=()
for group in "$@"; do
  [[ -v packages[$group] ]] || { echo "deps.sh: no group '$group' (${!packages[*]})" >&2; exit 2; }
  read -r -d '' -a names <<<"${packages[$group]}" || true
  wanted+=("${names[@]}")
done

if ! command -v dpkg-query >/dev/null; then
  echo "deps.sh: not a Debian system; going on with what is there. Needed: ${wanted[*]}" >&2
  exit 0
fi

missing=()
for name in "${wanted[@]}"; do
  status=$(dpkg-query -W -f '${db:Status-Status}' "$name" 2>/dev/null || true)
  [[ $status == installed ]] || missing+=("$name")
done
[[ ${#missing[@]} -eq 0 ]] && exit 0

as_root=()
if [[ $(id -u) -ne 0 ]]; then
  # Without a terminal a password prompt would hang for ever.
  if command -v sudo >/dev/null && { [[ -t 0 ]] || sudo -n true 2>/dev/null; }; then
    as_root=(sudo)
  else
    echo "heed needs packages that are not installed, and this is not root. Please run:" >&2
    echo "  sudo apt-get update && sudo apt-get install --no-install-recommends ${missing[*]}" >&2
    exit 1
  fi
fi

echo "installing: ${missing[*]}"
apt() { "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -qq -o Dpkg::Use-Pty=0 "$@"; }
apt update
apt install -y --no-install-recommends "${missing[@]}" >/dev/null
