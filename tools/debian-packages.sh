#!/bin/sh
# Install the Debian packages of a list that are missing: as root by itself, else it names them. Usage: LIST
set -eu

list=$1
missing=
for package in $(grep -v '^#' "$list"); do
    status=$(dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null || true)
    [ "$status" = installed ] || missing="$missing $package"
done
[ -n "$missing" ] || exit 0

if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
    echo "These Debian packages are missing. As root: apt-get install$missing" >&2
    exit 1
fi

echo "installing Debian packages:$missing"
# The tests start what they need on ports of their own: nothing that is installed here may start by itself.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    trap 'rm -f "$policy"' EXIT
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 755 "$policy"
fi
apt-get -qq update
# shellcheck disable=SC2086  # one word per package
DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends $missing >/dev/null
