#!/bin/sh
# Makes `rendered/`: what kustomize makes of each overlay, and of which files it was made. Needs `kubectl` or `kustomize`; the tests
# need neither.
set -eu
cd "$(dirname "$0")/../.."

build='kustomize build'
command -v kustomize >/dev/null 2>&1 || build='kubectl kustomize'
for overlay in k8s/overlays/*/; do
  $build "$overlay" >"tests/k8s/rendered/$(basename "$overlay").yaml"
done
# shellcheck disable=SC2046 # no name has a blank
LC_ALL=C sha256sum $(find k8s -name '*.yaml' -o -name '*.json' | LC_ALL=C sort) >tests/k8s/rendered/made-of
