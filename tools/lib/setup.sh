# What the commands in tools/ need before they can work. Sourced by bash; each function says what it does.

# Says why nothing can go on, and ends with the status of wrong usage.
give_up() {
    printf '%s\n' "$*" >&2
    exit 2
}

is_swift() {
    "$1" --version 2>/dev/null | grep -qE 'Swift version (6\.([3-9]|[1-9][0-9])|[7-9]\.)'
}

# Puts a Swift 6.3 toolchain first in PATH: another program of that name may come before it.
find_swift() {
    local folder
    for folder in "${SWIFT_HOME:+$SWIFT_HOME/bin}" "$(dirname "$(command -v swift || echo /)")" \
        /opt/swift/usr/bin /usr/share/swift/usr/bin /usr/local/swift/usr/bin \
        "${HOME-}/.local/share/swiftly/bin" "${HOME-}"/swift*/usr/bin; do
        if [ -x "$folder/swift" ] && is_swift "$folder/swift"; then
            export PATH="$folder:$PATH"
            return
        fi
    done
    give_up "No Swift 6.3 toolchain was found. Install one from swift.org and set SWIFT_HOME to its usr folder."
}

# Prints those of the given Debian packages that are missing.
missing_packages() {
    local name
    for name in "$@"; do
        dpkg-query -W -f '${Status}' "$name" 2>/dev/null | grep -q 'ok installed' || printf '%s\n' "$name"
    done
}

# Ends where one of the given Debian packages is missing, and installs nothing. Another system may have them by other names.
require_packages() {
    command -v dpkg-query >/dev/null || return 0
    local missing
    mapfile -t missing < <(missing_packages "$@")
    [ ${#missing[@]} -eq 0 ] || give_up "Packages are missing. Install them with:
  sudo apt-get update && sudo apt-get install -y ${missing[*]}"
}

# Installs those of the given Debian packages that are missing.
install_packages() {
    local missing
    mapfile -t missing < <(missing_packages "$@")
    [ ${#missing[@]} -gt 0 ] || return 0
    local as_root=()
    if [ "$(id -u)" -ne 0 ]; then
        as_root=(sudo -n)
        sudo -n true 2>/dev/null || give_up "Packages are missing. Install them with:
  sudo apt-get update && sudo apt-get install -y ${missing[*]}"
    fi
    echo "Installing ${missing[*]}"
    if ! { "${as_root[@]}" apt-get update -qq &&
        DEBIAN_FRONTEND=noninteractive "${as_root[@]}" apt-get install -qq -y --no-install-recommends \
            "${missing[@]}"; } >/dev/null 2>&1; then
        give_up "Packages are missing, and installing them failed. Once there is a network, run:
  sudo apt-get update && sudo apt-get install -y ${missing[*]}"
    fi
}

# Fetches the Swift packages that a project in this folder needs, unless they are there. More options go to swift.
fetch_dependencies() {
    local said options=(--package-path "$@")
    said=$(swift package "${options[@]}" resolve 2>&1) || give_up "$said
Swift packages are missing, and fetching them failed. Once there is a network, run:
  $(command -v swift) package ${options[*]} resolve"
}

# Builds the release in the given folder, with the Swift runtime inside: it starts in half the time, and runs where there is no
# toolchain. Sets `cairn` to the program. Further arguments are more products, which lie beside it then.
build_release() {
    local product said options=(-c release --package-path "$1" --static-swift-stdlib)
    for product in cairn "${@:2}"; do
        said=$(swift build "${options[@]}" --product "$product" 2>&1) || give_up "$said"
        printf '%s\n' "${said##*$'\n'}" >&2
    done
    cairn=$(swift build "${options[@]}" --show-bin-path)/cairn
}

build_packages=(pkg-config libssl-dev liblmdb-dev libzstd-dev)
test_packages=(gcc python3 python3-venv zstd e2fsprogs util-linux openssl coreutils)
