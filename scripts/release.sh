#!/usr/bin/env bash
# Builds all that is handed out into target/release-VERSION: Debian packages, the Python wheel,
# the crates, a list of all parts (SBOM, CycloneDX), the licences of the crates, and SHA256SUMS.
#
# scripts/release.sh twice: does it a second time, in a clone in another folder, and compares: the
# bytes are the same.
set -euo pipefail
cd "$(dirname "$0")/.."
export PATH=$PATH:$HOME/.cargo/bin
unset CARGO_TARGET_DIR
[ -z "$(git status --porcelain)" ] || { echo "there are changes that are not committed" >&2; exit 1; }
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
# Cargo.toml states it where crates of this repository name each other, too.
! sed -n 's/.*path = .*version = "\([^"]*\)".*/\1/p' Cargo.toml | grep -vx "$version" || {
    echo "Cargo.toml: these versions are not $version" >&2
    exit 1
}
grep -q "^## \[$version\]" CHANGELOG.md || { echo "CHANGELOG.md has no $version" >&2; exit 1; }

. scripts/dist-env.sh
out=target/release-$version
rm -rf "$out"
mkdir -p "$out"
scripts/package.sh
cp target/debian/*.deb "$out/"
scripts/wheel.sh
cp target/wheels/srfilter-*.whl "$out/"
cp target/licences.txt "$out/licences-$version.txt"
cargo package --quiet --no-verify --workspace --exclude testing --exclude srfilter-python
cp target/package/*-"$version".crate "$out/"
for package in plugin cli train python; do
    cp target/sbom/srfilter-$package.cdx.json "$out/srfilter-$package-$version.cdx.json"
done
(cd "$out" && sha256sum -- * > SHA256SUMS)
cat "$out/SHA256SUMS"

[ "${1:-}" = twice ] || exit 0
again=$(mktemp -d)
trap 'rm -rf "$again"' EXIT
git clone --quiet . "$again/srfilter"
mkdir "$again/srfilter/target"
ln -s "$PWD/target/tools" "$again/srfilter/target/tools"
(cd "$again/srfilter" && scripts/release.sh >/dev/null)
diff "$out/SHA256SUMS" "$again/srfilter/$out/SHA256SUMS" || {
    trap - EXIT
    echo "the second build is kept in $again/srfilter" >&2
    exit 1
}
echo "the same bytes in another folder"
