#!/bin/sh
# Installs, by its Debian name, what is missing beside the Rust toolchain; with `test` or `cluster`, what those tests need as
# well, with `image` what builds the image and runs it. Does nothing where everything is there.
set -eu

missing=
# Where Debian puts servers, and not every user looks.
PATH=$PATH:/usr/sbin
need() { # command, package
  command -v "$1" >/dev/null 2>&1 || missing="$missing $2"
}
need cc gcc
# The tests start servers of their own; the services that Debian's packages start are not used.
[ "${1:-}" != test ] || need redis-server redis-server
[ "${1:-}" != test ] || need pgbouncer pgbouncer
if [ "${1:-}" = test ]; then
  # Not on the path: each version has its own folder.
  ls /usr/lib/postgresql/*/bin/postgres >/dev/null 2>&1 || missing="$missing postgresql"
fi
[ "${1:-}" != cluster ] || need etcd etcd-server
# Gives a command a terminal.
[ "${1:-}" != test ] || need script bsdutils
# For the certificates of `k8s/overlays/try`.
[ "${1:-}" != test ] || need openssl openssl

# Builds the image, and runs it.
if [ "${1:-}" = image ]; then
  need buildah buildah
  need podman podman
  need runc runc
  need dnsmasq dnsmasq-base
  need openssl openssl
  need ip iproute2
fi

[ -z "$missing" ] && exit 0
echo "installing:$missing" >&2
sudo=
[ "$(id -u)" = 0 ] || sudo=sudo
$sudo apt-get update -qq
# shellcheck disable=SC2086 # one word a package
$sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing
