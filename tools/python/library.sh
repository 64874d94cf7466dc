#!/usr/bin/env bash
# Builds the release of the C library for the Python package, with the Swift runtime inside, and prints its path. Exits with 2, and a
# sentence that says what to install, where something is missing.
#
# usage: library.sh
set -euo pipefail
cd "$(dirname "$0")/../.."
. tools/lib/setup.sh

# In a folder of its own: other options in a shared one would build everything anew each time that they change.
scratch=(--scratch-path .build/library)
options=(-c release --product CairnC "${scratch[@]}" -Xswiftc -static-stdlib -Xlinker -s)

require_packages "${build_packages[@]}"
find_swift
fetch_dependencies "$PWD" "${scratch[@]}"
swift build "${options[@]}" >&2
printf '%s/libCairnC.so\n' "$(swift build "${options[@]}" --show-bin-path)"
