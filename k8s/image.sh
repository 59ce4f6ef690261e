#!/bin/sh
# The image of the Dockerfile from a static program that is built already: what the first stage would have made is handed to the
# second, so no base image is fetched. Needs buildah; not a daemon, and not a user of its own.
#
#   sh k8s/image.sh PROGRAM [NAME]
set -eu

program=${1:?usage: image.sh PROGRAM [NAME]}
name=${2:-localhost/bfb:0.1.0}
root=$(cd "$(dirname "$0")/.." && pwd)

# What is loaded by a dynamic program is not in the image.
if ldd "$program" 2>/dev/null | grep -q '=>'; then
  echo "error: \`$program\` is not static; \`make image\` builds one that is" >&2
  exit 64
fi

stage=$(mktemp -d)
trap 'rm -rf "$stage"' EXIT
mkdir -p "$stage/out/bin"
cp "$program" "$stage/out/bin/bfb"
chmod 755 "$stage/out/bin/bfb"
buildah build --isolation chroot --build-context build="$stage" --tag "$name" --file "$root/Dockerfile" "$root"
