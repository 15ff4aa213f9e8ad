#!/usr/bin/env bash
# Builds the documentation as a book, into target/book, and checks its links and those of the
# Markdown files. Warnings of mdbook are errors.
set -euo pipefail
cd "$(dirname "$0")/.."
mdbook=0.5.4
target=${CARGO_TARGET_DIR:-target}
mkdir -p "$target"
target=$(realpath "$target")
PATH=$target/tools/bin:$PATH:$HOME/.cargo/bin
scripts/setup.sh python3-bs4 python3-markdown-it
if [ "$(mdbook --version 2>/dev/null)" != "mdbook v$mdbook" ]; then
    cargo install --quiet --locked --root "$target/tools" mdbook@$mdbook --no-default-features --features search
fi
printed=$(mdbook build --dest-dir "$target/book" 2>&1) || { echo "$printed" >&2; exit 1; }
if grep -E '^ *(WARN|ERROR) ' <<<"$printed" >&2; then exit 1; fi
/usr/bin/python3 scripts/book-links.py "$target/book"
