#!/usr/bin/env bash
# Installs what building and running srfilter needs on Debian 12 or later and
# Ubuntu 24.04 or later, and the packages named as arguments. Does nothing if
# all are installed.
set -euo pipefail

rust_wanted=1.92
packages=(
    gcc make pkg-config
    libgstreamer1.0-dev libgstreamer-plugins-base1.0-dev
    gstreamer1.0-tools gstreamer1.0-plugins-base gstreamer1.0-plugins-good
    # Decodes H.264 and most other video.
    gstreamer1.0-libav
    # Parses it, for `sr video`.
    gstreamer1.0-plugins-bad
    # For examples/live_scale.py.
    python3-gi gir1.2-gstreamer-1.0
    "$@"
)

PATH=$PATH:$HOME/.cargo/bin
rust_line="Rust $rust_wanted or later is needed (curl -sSf https://sh.rustup.rs | sh -s -- -y), then run this again:"
if ! command -v cargo >/dev/null; then
    echo "$rust_line no cargo found." >&2
    exit 1
fi
rust_found=$(rustc --version | cut -d' ' -f2)
if [ "$(printf '%s\n' "$rust_wanted" "${rust_found%%-*}" | sort -V | head -n 1)" != "$rust_wanted" ]; then
    echo "$rust_line found $rust_found." >&2
    exit 1
fi

missing=()
for package in "${packages[@]}"; do
    status=$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null || true)
    [ "$status" = installed ] || missing+=("$package")
done
[ ${#missing[@]} -eq 0 ] && exit 0

if ! command -v apt-get >/dev/null; then
    echo "This is no Debian or Ubuntu: install the equivalents of ${missing[*]} by hand." >&2
    exit 1
fi
root=()
if [ "$(id -u)" -ne 0 ]; then
    root=(sudo)
    if ! command -v sudo >/dev/null; then
        echo "As root: apt-get install ${missing[*]}" >&2
        exit 1
    fi
fi
echo "Installing ${missing[*]}"
"${root[@]}" apt-get update -qq
"${root[@]}" env DEBIAN_FRONTEND=noninteractive \
    apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
