#!/bin/sh
# A fresh Debian 12 on this machine: minbase, Python 3.11 and make, a clone of the last commit in /srv/hunqi, with
# network, processes, mounts and host name of its own. Usage, as root: tools/fresh.sh [COMMAND...]
# COMMAND runs there, in the clone; without one it is tools/fresh-steps.sh. The machine ends with it, whatever happens.
# Its registries are reached through this machine (NAT); what this one needs to reach them is brought along: DNS, proxies,
# pip's settings, further certificates.
set -eu

source=$(git rev-parse --show-toplevel)
work=$source/.run/fresh
base=$work/base
name=hqfresh$$
root=/var/tmp/$name
[ $# -gt 0 ] || set -- sh tools/fresh-steps.sh

[ "$(id -u)" = 0 ] || { echo "make fresh makes namespaces and mounts: run it as root" >&2; exit 1; }
for program in debootstrap ip iptables nsenter unshare pivot_root; do
    command -v "$program" >/dev/null || missing="${missing:-} $program"
done
[ -z "${missing:-}" ] || { echo "missing:$missing (apt-get install debootstrap iproute2 iptables)" >&2; exit 1; }

if [ ! -e "$base/etc/debian_version" ]; then
    echo "fresh: making Debian 12 (once; a minute or two)"
    mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Origin: Debian' 'Label: Debian' |
        head -n 1)
    rm -rf "$base.part"
    mkdir -p "$work"
    debootstrap --variant=minbase --include=python3.11,make,ca-certificates bookworm "$base.part" ${mirror:+"$mirror"} \
        >"$work/debootstrap.log" 2>&1 || { tail -n 5 "$work/debootstrap.log" >&2; exit 1; }
    mv "$base.part" "$base"
fi

# 10.197.X.0/30, by the process number: several may run at once.
subnet=10.197.$(($$ % 250))
keeper=
nat="POSTROUTING -s $subnet.0/30 ! -o $name -j MASQUERADE"
end() {
    trap - EXIT INT TERM
    [ -z "$keeper" ] || kill -9 "$keeper" 2>/dev/null || true  # the first process of its namespace: all others go along
    [ -z "$keeper" ] || wait "$keeper" 2>/dev/null || true
    # shellcheck disable=SC2086  # a rule is words
    iptables -w 10 -t nat -D $nat 2>/dev/null || true
    iptables -w 10 -D FORWARD -i "$name" -j ACCEPT 2>/dev/null || true
    iptables -w 10 -D FORWARD -o "$name" -j ACCEPT 2>/dev/null || true
    ip netns delete "$name" 2>/dev/null || true
    ip link delete "$name" 2>/dev/null || true
    rm -rf --one-file-system "$root" 2>/dev/null || { sleep 1; rm -rf --one-file-system "$root"; }
    find /sys/fs/cgroup -depth -type d -path "*/$name*" -exec rmdir {} + 2>/dev/null || true
}
trap end EXIT
trap 'exit 130' INT TERM

cp -a "$base" "$root"
git clone -q "$source" "$root/srv/hunqi"
cp -L /etc/resolv.conf "$root/etc/resolv.conf"
printf '127.0.0.1 localhost\n::1 localhost\n' >"$root/etc/hosts"
cp -a /usr/local/share/ca-certificates/. "$root/usr/local/share/ca-certificates/"
chroot "$root" update-ca-certificates >/dev/null 2>&1
apt-config dump Acquire | grep -i 'proxy' >"$root/etc/apt/apt.conf.d/90fresh" || true

ip netns add "$name"
ip link add "$name" type veth peer name eth0 netns "$name"
ip addr add "$subnet.1/30" dev "$name"
device=$(ip route show default | sed -n 's/.* dev \([^ ]*\).*/\1/p' | head -n 1)
mtu=$(cat "/sys/class/net/$device/mtu" 2>/dev/null || echo 1500)
ip link set "$name" mtu "$mtu" up
ip -n "$name" link set eth0 mtu "$mtu"
ip -n "$name" addr add "$subnet.2/30" dev eth0
ip -n "$name" link set eth0 up
ip -n "$name" link set lo up
ip -n "$name" route add default via "$subnet.1"
sysctl -q -w net.ipv4.ip_forward=1
# shellcheck disable=SC2086
iptables -w 10 -t nat -A $nat
iptables -w 10 -I FORWARD -i "$name" -j ACCEPT
iptables -w 10 -I FORWARD -o "$name" -j ACCEPT

cat >"$root/.boot" <<'BOOT'
set -e
root=$1
hostname fresh
mount --bind "$root" "$root"
cd "$root"
mount -t proc proc proc
mount -t sysfs sysfs sys
mount --rbind /sys/fs/cgroup sys/fs/cgroup
mount --rbind /dev dev
mount -t tmpfs tmpfs run
mount -t tmpfs tmpfs tmp
mkdir -p run/lock .old
pivot_root . .old
cd /
umount -l /.old
: >/run/booted
exec sleep infinity
BOOT
# `ip netns exec` would remount /sys and hide the cgroups.
nsenter --net="/var/run/netns/$name" unshare --mount --uts --ipc --pid --fork --kill-child sh "$root/.boot" "$root" \
    2>"$work/boot.log" &
holder=$!
for _ in $(seq 100); do
    keeper=$(pgrep -P "$holder" 2>/dev/null || true)
    [ -z "$keeper" ] || nsenter -t "$keeper" -m -p test -e /run/booted 2>/dev/null && break
    sleep 0.1
done
nsenter -t "$keeper" -m -p test -e /run/booted || { echo "fresh: the machine did not boot" >&2; exit 1; }
rm -f "$root/.boot"

kept=$(env | grep -iE '^(https?_proxy|no_proxy|PIP_(CERT|INDEX_URL|TRUSTED_HOST|DEFAULT_TIMEOUT))=' || true)
# In the background, so that a signal is heeded at once; what it began ends with the machine.
# shellcheck disable=SC2086
env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8 TERM="${TERM:-dumb}" \
    $kept nsenter -t "$keeper" --mount --uts --ipc --net --pid --wdns=/srv/hunqi "$@" <&0 &
wait $!
