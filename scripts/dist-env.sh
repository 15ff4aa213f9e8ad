# What makes the bytes of a build for others independent of the folder and the time: the time of
# the commit, and names of folders that are the same everywhere. To be sourced in the root folder.
SOURCE_DATE_EPOCH=$(git log -1 --format=%ct)
export SOURCE_DATE_EPOCH
export RUSTFLAGS="--remap-path-prefix=$PWD=/srfilter --remap-path-prefix=${CARGO_HOME:-$HOME/.cargo}=/cargo"
export CFLAGS="-ffile-prefix-map=$PWD=/srfilter -ffile-prefix-map=${CARGO_HOME:-$HOME/.cargo}=/cargo"
