#!/bin/sh
# Lock the dependencies of pyproject.toml with hashes; no index is named, each machine uses its own. Usage: UV
set -eu

uv=$1
compile() {
    "$uv" pip compile --quiet --upgrade --generate-hashes --python-version 3.11 --no-emit-index-url --no-emit-find-links \
        --no-header "$@"
}
compile pyproject.toml tools/build.in --output-file requirements.lock
compile pyproject.toml tools/build.in --extra dev --constraint requirements.lock --output-file requirements-dev.lock
