#!/bin/sh
# What a user does on a fresh machine, and what goes wrong there; run by tools/fresh.sh, in the clone, as root.
# Everything that is said is shown. Ends at the first step that ends otherwise than it should.
set -u

export PATH="$PWD/.venv/bin:$PATH" HUNQI_DATA="$PWD/.run/hunqi"
said=/tmp/said

# expect CODE TEXT COMMAND...: the command ends with CODE (0, or 1 for any failure) and says TEXT.
expect() {
    code=$1 text=$2
    shift 2
    printf '\n$ %s\n' "$*"
    began=$(date +%s)
    got=0
    "$@" >"$said" 2>&1 || got=1
    cat "$said"
    printf '(%s s)\n' "$(($(date +%s) - began))"
    if [ "$got" != "$code" ]; then
        echo "fresh: this should have ended with $code, and ended with $got" >&2
        exit 1
    fi
    if ! tr -s '\n ' ' ' <"$said" | grep -qF -- "$text"; then
        echo "fresh: this should have said: $text" >&2
        exit 1
    fi
}
step() { printf '\n== %s\n' "$*"; }
stranger() { setpriv --reuid=1000 --regid=1000 --clear-groups env HOME=/tmp "$@"; }
stop_docker() {
    kill "$(cat /run/docker.pid)"
    while [ -e /run/docker.pid ]; do sleep 0.2; done
}
taken() {
    for port in "$@"; do
        python3.11 -m http.server "$port" >/dev/null 2>&1 &
        holders="${holders:-} $!"
    done
    sleep 1
}
released() {
    # shellcheck disable=SC2086  # one word per process
    kill $holders
    holders=
}

step "As a user, on a machine that has nothing"
cp -r . /tmp/hunqi && chown -R 1000:1000 /tmp/hunqi
expect 1 "As root: apt-get install" stranger make -C /tmp/hunqi up

step "Ports are taken: Docker is installed and started, nothing else is begun"
taken 80 5000 7000
expect 1 "give --mirror ADDRESS" make up
grep -q "Docker is missing: installing" "$said" || { echo "fresh: it did not say that it installs Docker" >&2; exit 1; }
grep -q "starting dockerd as a process" "$said" || { echo "fresh: it did not say that it starts Docker" >&2; exit 1; }
for text in 0.0.0.0:80 127.0.0.1:7000; do
    grep -qF "$text" "$said" || { echo "fresh: $text was not named" >&2; exit 1; }
done
expect 0 "inactive" docker info --format '{{.Swarm.LocalNodeState}}'
released

step "As a user, Docker is there"
expect 1 "as a member of the group docker" stranger .venv/bin/hunqi up --data /tmp/theirs

step "Docker is there and does not run"
stop_docker
expect 1 "As root" stranger .venv/bin/hunqi up --data /tmp/theirs
expect 0 "Hunqi runs." make up

step "Twice; down; again"
expect 0 "nothing was done" make up
expect 0 "0 problems" hunqi doctor
expect 0 "go on serving" make down
expect 1 "hunqi up starts it" make down
expect 0 "Hunqi runs." make up

step "The sample app"
command -v curl >/dev/null || { apt-get -qq update && apt-get -qq install -y --no-install-recommends curl; } >/dev/null 2>&1
expect 0 "Next:" make sample
token=$(hunqi up --new-setup-token | grep -o 'hqs_[^ ]*')
expect 0 "" env HUNQI_SETUP_TOKEN="$token" HUNQI_PASSWORD="nine lemons and a pear" hunqi login --setup --name ann
expect 0 "" hunqi app deploy -f examples/shop/compose.yaml
hunqi ca show >/tmp/ca.pem
expect 0 "" curl -sS --fail --cacert /tmp/ca.pem https://shop.localhost/
expect 0 "" hunqi app scale shop web=3
expect 0 "running" hunqi app show shop
make down >/dev/null 2>&1
expect 0 "" curl -sS --fail --cacert /tmp/ca.pem https://shop.localhost/

step "The machine starts again: Docker is gone with everything"
stop_docker
expect 0 "Hunqi runs." make up
expect 0 "" curl -sS --fail --retry 30 --retry-delay 1 --retry-all-errors --cacert /tmp/ca.pem https://shop.localhost/

step "Another data directory, and a Swarm that somebody made"
make down >/dev/null 2>&1
expect 1 "has a Hunqi already" make up DATA=/tmp/other UP="--http-port 8080 --https-port 8443 --tcp-ports 21000-21009"
docker ps -aq | xargs docker rm -f >/dev/null 2>&1
docker swarm leave --force >/dev/null
docker ps -aq | xargs docker rm -f >/dev/null 2>&1
docker swarm init --advertise-addr 127.0.0.1 >/dev/null
expect 0 "the Swarm that is here" make up DATA=/tmp/other

step "A disk that is almost full"
make down DATA=/tmp/other >/dev/null 2>&1
docker config ls -q | xargs docker config rm >/dev/null
docker ps -aq | xargs docker rm -f >/dev/null 2>&1
mkdir -p /tmp/small && mount -t tmpfs -o size=300m tmpfs /tmp/small
expect 0 "free 1 GiB at least" make up DATA=/tmp/small/hunqi
make down DATA=/tmp/small/hunqi >/dev/null 2>&1

step "The tests install what they need, and start"
expect 0 "passed" make test T="tests/unit/test_engine_parts.py tests/real/test_platform_up.py"

echo
echo "fresh: everything was as it should be"
