#!/bin/sh
# Fetch Docker Engine of another Debian suite, beside this machine's own. Usage: tools/engines.sh SUITE DIRECTORY
# DIRECTORY then has `dockerd`, a program for HUNQI_TEST_DOCKERD: it swaps /usr for the suite's in a mount namespace of
# its own, so that dockerd, containerd, runc, iptables and their libraries are all of that suite. Nothing is installed.
set -eu

suite=$1
directory=$(realpath -m "$2")
[ ! -x "$directory/dockerd" ] || exit 0

# The mirror is the one that this machine's apt takes Debian from.
uri=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Origin: Debian' 'Label: Debian' | head -n 1)
[ -n "$uri" ] || { echo "apt knows no Debian mirror yet: run apt-get update first" >&2; exit 1; }

apt=$directory/apt
rm -rf "$directory"
mkdir -p "$apt/lists/partial" "$apt/cache/archives/partial" "$directory/usr"
: >"$apt/status"
echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $uri $suite main" >"$apt/sources.list"
apt_get() {
    apt-get -qq -o Dir::State="$apt" -o Dir::State::lists="$apt/lists" -o Dir::State::status="$apt/status" \
        -o Dir::Cache="$apt/cache" -o Dir::Etc::sourcelist="$apt/sources.list" -o Dir::Etc::sourceparts=- \
        -o APT::Sandbox::User=root "$@"
}
echo "fetching Docker Engine of Debian $suite"
apt_get update
# With an empty status file apt takes every library for missing, which is what is wanted.
apt_get install -y --download-only --no-install-recommends docker.io procps >/dev/null

for link in bin sbin lib lib64; do
    mkdir -p "$directory/usr/$link"
    ln -s "usr/$link" "$directory/$link"
done
for package in "$apt"/cache/archives/*.deb; do
    dpkg-deb --fsys-tarfile "$package" | tar -x --keep-directory-symlink -C "$directory"
done
rm -rf "$apt"
# Nothing was configured, so there are no alternatives yet.
for program in iptables iptables-save iptables-restore ip6tables ip6tables-save ip6tables-restore; do
    ln -sf xtables-nft-multi "$directory/usr/sbin/$program"
done

cat >"$directory/dockerd" <<SCRIPT
#!/bin/sh
exec unshare --mount --propagation slave sh -c 'mount --bind "\$0" /usr && exec /usr/sbin/dockerd "\$@"' \\
    "$directory/usr" "\$@"
SCRIPT
chmod 755 "$directory/dockerd"
