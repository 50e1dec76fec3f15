#!/bin/sh
# The steps of the Dockerfile, and of tests/deploy/test_images.py, which runs them in a folder:
#
#   install.sh tools PREFIX        what builds the rest (uv, hatchling, cyclonedx), from requirements/image-tools.txt
#   install.sh cpu|gpu PREFIX      an environment with the locked packages; beside it PREFIX/../tools
#   install.sh package PREFIX      s1ray itself, a check that it fits, and the list of what is inside
#
# Every file that is downloaded must have the hash of its lock. UV_FIND_LINKS, UV_INDEX_URL and pip's variables name a site's
# own registry, as everywhere; without UV_FIND_LINKS torch's CPU build comes from PyTorch's index.
set -eu
# A machine that builds is a busy one.
export UV_COMPILE_BYTECODE_TIMEOUT=900
step=$1
prefix=$2
tools=$(dirname "$prefix")/tools

case $step in
  tools)
    python3 -m venv "$prefix"
    "$prefix/bin/pip" install --quiet --no-cache-dir --disable-pip-version-check --no-deps --require-hashes \
      --requirement requirements/image-tools.txt
    ;;
  cpu | gpu)
    backend=
    if [ "$step" = cpu ] && [ -z "${UV_FIND_LINKS:-}" ]; then backend="--torch-backend=cpu"; fi
    python3 -m venv --without-pip "$prefix"
    # shellcheck disable=SC2086  # one word, or none
    "$tools/bin/uv" pip install --quiet --no-cache --compile-bytecode --no-deps --require-hashes $backend \
      --python "$prefix/bin/python" --requirement "requirements/image-$step.txt"
    ;;
  package)
    wheels=$(mktemp -d)
    "$tools/bin/hatchling" build --target wheel --directory "$wheels"
    "$tools/bin/uv" pip install --quiet --no-cache --compile-bytecode --no-deps --python "$prefix/bin/python" "$wheels"/*.whl
    rm -r "$wheels"
    "$tools/bin/cyclonedx-py" environment --output-reproducible --output-format JSON \
      --output-file "$prefix/sbom.cdx.json" "$prefix/bin/python"
    "$prefix/bin/s1ray" --version
    ;;
  *)
    echo "install.sh: no step $step; tools, cpu, gpu and package are" >&2
    exit 2
    ;;
esac
