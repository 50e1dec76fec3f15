#!/bin/sh
# make lock-images: write the base's digest into images.lock. make image: build the image on it.
#
#   build.sh lock
#   build.sh image cpu|gpu NAME
#
# Needs docker with buildx (or skopeo for the first).
set -eu
cd "$(dirname "$0")/../.."
lock=deploy/images/images.lock
# shellcheck source=/dev/null
. "./$lock"

case ${1:-} in
  lock)
    if command -v skopeo >/dev/null; then
      digest=$(skopeo inspect --raw "docker://docker.io/library/$TAG" | sha256sum | cut -d ' ' -f 1)
      digest=sha256:$digest
    else
      digest=$(docker buildx imagetools inspect "$TAG" --format '{{.Manifest.Digest}}')
    fi
    case $digest in
      sha256:????????????????????????????????????????????????????????????????) ;;
      *) echo "build.sh: the registry gave no digest for $TAG: $digest" >&2; exit 1 ;;
    esac
    sed -i "s/^DIGEST=.*/DIGEST=$digest/" "$lock"
    echo "$TAG@$digest"
    ;;
  image)
    if [ -z "${DIGEST:-}" ]; then
      echo "build.sh: $lock has no digest yet; run 'make lock-images' where the registry can be reached" >&2
      exit 2
    fi
    docker buildx build --file deploy/images/Dockerfile --build-arg "BASE=${TAG%%:*}@$DIGEST" --build-arg "TARGET=$2" \
      --sbom=true --provenance=true --tag "$3" --push .
    docker buildx imagetools inspect "$3" --format "$3@{{.Manifest.Digest}}"
    ;;
  *)
    echo "build.sh: say 'lock', or 'image cpu|gpu NAME'" >&2
    exit 2
    ;;
esac
