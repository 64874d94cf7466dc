#!/usr/bin/env bash
# Prints the path of a Python that has requirements.txt installed, or with a NAME, requirements-NAME.txt; the first call makes it, in the
# user's cache folder. Requirements that name requirements.txt as constraints (`-c requirements.txt`) are installed on top of those: they
# take a few megabytes instead of another PyTorch. Exits with 2, and one line that says why, where an installation fails.
#
# usage: environment.sh [NAME]
set -euo pipefail
here="$(cd "$(dirname "$0")" && pwd)"
requirements="$here/requirements${1:+-$1}.txt"
[ -e "$requirements" ] || { echo "There is no $requirements" >&2 && exit 2; }
cache="${XDG_CACHE_HOME:-$HOME/.cache}/cairn"

is_on_top() { grep -qx -e '-c requirements.txt' "$requirements"; }

below=
if is_on_top; then below=$("$0"); fi
key=$({ cat "$requirements" && { ! is_on_top || cat "$here/requirements.txt"; }; } | sha256sum | cut -c 1-16)
folder="$cache/python-${1:+$1-}$key"

# The marker is written last; the link to the system's Python dangles once that is upgraded.
is_ready() { [ -e "$folder/complete" ] && [ -x "$folder/bin/python" ]; }

install() {
    rm -rf "$folder"
    if [ -n "$below" ]; then
        # A .pth file lets it see the packages below, pip among them, and its own come first.
        "$below" -m venv --without-pip "$folder" &&
            packages='import sysconfig; print(sysconfig.get_path("purelib"))' &&
            "$below" -c "$packages" >"$("$folder/bin/python" -c "$packages")/below.pth"
    else
        python3 -m venv "$folder"
    fi && "$folder/bin/python" -m pip install --quiet --disable-pip-version-check --requirement "$requirements"
}

if ! is_ready; then
    mkdir -p "$cache"
    exec 9>"$folder.lock"
    flock 9
    if ! is_ready; then
        echo "Installing ${1:-PyTorch, transformers and others} into $folder (up to 2 minutes)" >&2
        if ! install >"$folder.log" 2>&1; then
            echo "The Python packages of $(basename "$requirements") are missing, and installing them failed" \
                "(see $folder.log); once there is a network, run: $0${1:+ $1}" >&2
            exit 2
        fi
        touch "$folder/complete"
    fi
fi
printf '%s\n' "$folder/bin/python"
