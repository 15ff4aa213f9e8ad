#!/usr/bin/env bash
# Lists all parts (SBOM, CycloneDX) of what is handed out into target/sbom, by cargo-cyclonedx: the
# same bytes in any folder.
set -euo pipefail
cd "$(dirname "$0")/.."
cargo_cyclonedx=0.5.9
export PATH=$PATH:$HOME/.cargo/bin
unset CARGO_TARGET_DIR
. scripts/dist-env.sh
if [ "$(target/tools/bin/cargo-cyclonedx --version 2>/dev/null)" != "cargo-cyclonedx-cyclonedx $cargo_cyclonedx" ]; then
    cargo install --quiet --locked --root target/tools cargo-cyclonedx@$cargo_cyclonedx
fi
# It writes one for each crate of the workspace, and names this folder; the crate in it has another
# identifier where the folder has its name.
target/tools/bin/cargo-cyclonedx cyclonedx --quiet --manifest-path Cargo.toml --format json \
    --override-filename sbom --target x86_64-unknown-linux-gnu
mkdir -p target/sbom
for package in plugin cli train python; do
    sed "s|file://$PWD|file:///srfilter|g; s|///srfilter#srfilter@|///srfilter#|g" $package/sbom.json \
        > target/sbom/srfilter-$package.cdx.json
done
rm -f sbom.json ./*/sbom.json
