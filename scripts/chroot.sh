#!/usr/bin/env bash
# A bare system of a Debian release in target/chroot-SUITE, made by debootstrap if it is not
# there: scripts/chroot.sh SUITE. As root.
#
# scripts/chroot.sh SUITE COMMAND...: runs a command in a copy of it, in this folder, which is at
# the same place there, and with /proc and /dev; the copy is gone with the command. BIND: other
# folders to have there, such as "$HOME/.cargo $HOME/.rustup".
set -euo pipefail
cd "$(dirname "$0")/.."
suite=${1:?usage: scripts/chroot.sh SUITE [COMMAND...]}
shift
bare=$PWD/target/chroot-$suite
[ "$(id -u)" -eq 0 ] || { echo "debootstrap needs root" >&2; exit 1; }
if [ ! -e "$bare/usr/bin/apt-get" ]; then
    scripts/setup.sh debootstrap
    # Releases later than this debootstrap are as the unstable one.
    script=/usr/share/debootstrap/scripts/$suite
    [ -e "$script" ] || script=/usr/share/debootstrap/scripts/sid
    rm -rf "$bare"
    debootstrap --variant=minbase "$suite" "$bare" "" "$script" >/dev/null
    # The lists of testing expire after a week, and a mirror may lag.
    echo 'Acquire::Check-Valid-Until "false";' > "$bare/etc/apt/apt.conf.d/lagging-mirror"
fi
[ $# -gt 0 ] || exit 0
copy=$(mktemp -d "$PWD/target/copy-$suite.XXXXXX")
trap 'rm -rf "$copy"' EXIT
mkdir "$copy"/{changes,work,root}
# A mount namespace of its own.
unshare --mount --propagation private bash -euo pipefail -c '
    bare=$1 copy=$2 here=$3 root=$2/root
    shift 3
    mount -t overlay overlay "$root" \
        -o "lowerdir=$bare,upperdir=$copy/changes,workdir=$copy/work"
    for folder in "$here" ${BIND:-}; do
        mkdir -p "$root$folder"
        mount --bind "$folder" "$root$folder"
    done
    mount -t proc proc "$root/proc"
    mount --rbind /dev "$root/dev"
    env -i HOME=/root PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
        LANG=C.UTF-8 DEBIAN_FRONTEND=noninteractive \
        chroot "$root" /bin/sh -c "cd \"\$0\" && exec \"\$@\"" "$here" "$@"
' chroot "$bare" "$copy" "$PWD" "$@"
