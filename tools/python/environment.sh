#!/usr/bin/env bash
# Prints the path of a Python that has requirements.txt installed; the first call makes it, in the user's cache folder.
set -euo pipefail
requirements="$(cd "$(dirname "$0")" && pwd)/requirements.txt"
cache="${XDG_CACHE_HOME:-$HOME/.cache}/cairn"
folder="$cache/python-$(sha256sum "$requirements" | cut -c 1-16)"

# The marker is written last; the link to the system's Python dangles once that is upgraded.
is_ready() { [ -e "$folder/complete" ] && [ -x "$folder/bin/python" ]; }

install() {
    rm -rf "$folder"
    python3 -m venv "$folder" &&
        "$folder/bin/python" -m pip install --quiet --disable-pip-version-check --requirement "$requirements"
}

if ! is_ready; then
    mkdir -p "$cache"
    exec 9>"$folder.lock"
    flock 9
    if ! is_ready; then
        echo "Installing PyTorch, transformers and others into $folder (1 to 2 minutes)" >&2
        if ! install >"$folder.log" 2>&1; then
            echo "The Python packages of the interoperability tests are missing, and installing them failed" \
                "(see $folder.log); once there is a network, run: $0" >&2
            exit 2
        fi
        touch "$folder/complete"
    fi
fi
printf '%s\n' "$folder/bin/python"
