#!/bin/sh
# Builds the control plane of `make test-cluster`, where it is not there yet, and prints its path. The name holds a hash of
# all that decides what comes out: minutes of work are done once, and again when the release of Kubernetes changes.
set -eu
cd "$(dirname "$0")/kubernetes"

target=${CARGO_TARGET_DIR:-../../../target}/kubernetes
hash=$(cat go.mod go.sum main.go ../build.sh | sha256sum | cut -c1-16)
mkdir -p "$target"
target=$(cd "$target" && pwd)
binary=$target/control-plane-$hash

if [ ! -x "$binary" ]; then
  if ! command -v go >/dev/null 2>&1; then
    echo "make test-cluster: \`go\` was not found, expected a Go toolchain (1.26 or newer) to build the control plane with" >&2
    echo "hint: https://go.dev/dl; \`make test\` needs none" >&2
    exit 69
  fi
  echo "building kube-apiserver and kube-controller-manager: minutes, once" >&2
  release=$(sed -n 's|^\tk8s.io/kubernetes v||p' go.mod)
  version=k8s.io/component-base/version
  # Without these the API server calls itself 0.0.0, and whoever asks for its version turns away from it.
  minor=${release#*.}
  flags="-s -w -X $version.gitVersion=v$release -X $version.gitMajor=${release%%.*} -X $version.gitMinor=${minor%%.*}"
  # Renamed when whole: a build that is cut off leaves nothing that looks like a binary.
  CGO_ENABLED=0 go build -trimpath -ldflags "$flags" -o "$binary.part" .
  mv "$binary.part" "$binary"
fi
echo "$binary"
