#!/bin/sh
# The engine's own tests and the whole way on newer Docker Engines, one after another, as root.
# Usage: tools/test-engines.sh [NAME...], names as below. Only the last lines of each run are shown; the rest is kept.
set -eu

all="26 28 28-containerd"
ours="tests/contract/test_engine.py tests/contract/test_engine_observer.py tests/real/test_engine_docker.py
tests/real/test_agent_docker.py tests/real/test_agent_gateway.py tests/real/test_agent_images.py
tests/real/test_gateway_node.py tests/real/test_platform_up.py tests/real/test_tour.py tests/real/test_apps_deploy.py
tests/real/test_compose_arrives.py tests/real/test_nodes_joining.py tests/real/test_gateway_switches.py"
engines=.run/engines
failed=
for name in ${*:-$all}; do
    case $name in
        26) suite=trixie store= ;;
        28) suite=sid store= ;;
        28-containerd) suite=sid store=containerd ;;
        *) echo "no such engine: $name; there are $all" >&2; exit 2 ;;
    esac
    sh tools/engines.sh "$suite" "$engines/$suite"
    dockerd=$(realpath "$engines/$suite/dockerd")
    echo "$("$dockerd" --version)${store:+, images in the store of $store}"
    # shellcheck disable=SC2086  # one word per file
    HUNQI_TEST_DOCKERD=$dockerd HUNQI_TEST_STORE=$store \
        .venv/bin/python -m pytest -q --tb=short -m real ${T:-$ours} >"$engines/$name.log" 2>&1 || failed="$failed $name"
    tail -n 1 "$engines/$name.log"
done
[ -z "$failed" ] || { echo "failed:$failed; see $engines/NAME.log" >&2; exit 1; }
