#!/usr/bin/env bash
# Builds the release of what the Python package has of Swift, the C library and the command, with the Swift runtime inside, and prints the
# folder where they are. Exits with 2, and a sentence that says what to install, where something is missing.
#
# usage: build.sh
set -euo pipefail
cd "$(dirname "$0")/../.."
. tools/lib/setup.sh

# In a folder of its own: other options in a shared one would build everything anew each time that they change.
scratch=(--scratch-path .build/library)
options=(-c release "${scratch[@]}" -Xswiftc -static-stdlib -Xlinker -s)

require_packages "${build_packages[@]}"
find_swift
fetch_dependencies "$PWD" "${scratch[@]}"
for product in CairnC cairn; do
    swift build "${options[@]}" --product "$product" >&2
done
swift build "${options[@]}" --show-bin-path
