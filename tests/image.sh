#!/bin/sh
# The image, tried: what is in it, how large it is, as whom it runs, and that it runs with nothing around it: no network, nothing
# that it may write to but /tmp, no rights. Then `k8s/overlays/try` without a cluster: the upstreams in one container, a consumer's
# sidecar in another, names from a DNS server and from /etc/hosts.
#
#   sh tests/image.sh [NAME]
#
# Needs podman, runc, dnsmasq, openssl, iproute2, and the rights to make a network namespace.
set -eu

image=${1:-localhost/bfb:0.1.0}
largest=$((25 * 1024 * 1024))
root=$(cd "$(dirname "$0")/.." && pwd)

# Everything below happens in a network of its own, where port 53 is free and nobody else is.
if [ "${BFB_APART:-}" != yes ]; then
  exec env BFB_APART=yes unshare --net sh "$0" "$image"
fi
ip link set lo up
dir=$(mktemp -d)
# The containers' user, which no machine has, reads what is here.
chmod 755 "$dir"

podman() { command podman --runtime runc --cgroup-manager cgroupfs "$@"; }
run() { podman run --read-only --cap-drop all --security-opt no-new-privileges --ulimit nofile=1024:1024 --ulimit nproc=1024:1024 "$@"; }
fail() { echo "error: $*" >&2; exit 1; }
told() { podman inspect "$image" --format "$1"; }

dns=
end() {
  podman rm --force --ignore --time 2 bfb-upstreams bfb-sidecar >/dev/null 2>&1 || true
  [ -z "$dns" ] || kill "$dns" 2>/dev/null || true
  rm -rf "$dir"
}
trap end EXIT

size=$(told '{{.Size}}')
echo "size: $size bytes"
[ "$size" -lt "$largest" ] || fail "the image has $size bytes, expected fewer than $largest"
[ "$(told '{{.Config.User}}')" = 65532:65532 ] || fail "the user is $(told '{{.Config.User}}'), expected 65532:65532"
podman create --name bfb-sidecar "$image" >/dev/null
holds=$(podman export bfb-sidecar | tar -t | grep -v '/$')
podman rm bfb-sidecar >/dev/null
[ "$holds" = bin/bfb ] || fail "the image holds $holds, expected bin/bfb alone"

echo "== bfb --version, as user 65532 with nothing to write to"
run --rm --network none "$image" --version

echo "== bfb demo --once, without a network"
run --rm --network none "$image" demo --once >"$dir/demo.out"
grep -q '^HTTP/2.0 200\|^HTTP/1.1 200' "$dir/demo.out" || fail "$(cat "$dir/demo.out")"
sed -n 1,4p "$dir/demo.out"

echo "== a cluster's names: searched for in svc.cluster.local, with ndots 5"
mkdir "$dir/upstreams"
sh "$root/k8s/overlays/try/certificates.sh" >"$dir/secrets.yaml"
# Each Secret as the folder that the kubelet makes of it.
while read -r key value rest; do
  case $key in
    metadata:) name=${rest%%,*} name=${name#upstream-} && mkdir "$dir/upstreams/$name" ;;
    ca.crt: | tls.crt: | tls.key:) echo "$value" | base64 -d >"$dir/upstreams/$name/${key%:}" ;;
  esac
done <"$dir/secrets.yaml"
dnsmasq --keep-in-foreground --conf-file=/dev/null --no-resolv --no-hosts --listen-address 127.0.0.1 --bind-interfaces --user=root \
  --address /bfb-try.svc.cluster.local/127.0.0.9 --log-queries --log-facility "$dir/dns.log" &
dns=$!
run --detach --name bfb-upstreams --network host --volume "$dir/upstreams:/etc/bfb/upstreams:ro" "$image" \
  demo --upstreams /etc/bfb/upstreams >/dev/null
run --detach --name bfb-sidecar --network host --volume "$dir/upstreams/bfb-identity:/etc/bfb/identity:ro" \
  --volume "$root/k8s/domains/customer/files:/etc/bfb/domains:ro" \
  --dns 127.0.0.1 --dns-search svc.cluster.local --dns-option ndots:5 --add-host orders.elsewhere:127.0.0.8 \
  --env PROFILE_HOST=profile.bfb-try:8441 --env FAVORITES_HOST=favorites.bfb-try:8442 --env REVIEWS_HOST=reviews.bfb-try:8443 \
  --env ORDERS_HOST=orders.elsewhere:8444 --env BFB_IDENTITY=/etc/bfb/identity --tmpfs /run/bfb-admin:rw,mode=0777 --env BFB_ADMIN=unix:/run/bfb-admin/admin.sock \
  --env BFB_PROBES=0.0.0.0:7072 "$image" serve /etc/bfb/domains >/dev/null

# As `kubectl exec POD -c bfb -- bfb …`: by its name, with the container's own variables.
asked=0
until podman exec bfb-sidecar bfb get customer 42 >"$dir/got.json" 2>"$dir/got.err"; do
  asked=$((asked + 1))
  [ "$asked" -lt 50 ] || fail "$(cat "$dir/got.err"; podman logs bfb-sidecar 2>&1)"
  sleep 0.2
done
for member in profile favorites reviews orders; do
  grep -q "\"$member\":" "$dir/got.json" || fail "no $member in $(cat "$dir/got.json")"
done
grep -q 'profile.bfb-try.svc.cluster.local' "$dir/dns.log" || fail "the DNS server was not asked: $(cat "$dir/dns.log")"
! grep -q 'orders.elsewhere' "$dir/dns.log" || fail "/etc/hosts was not read: $(cat "$dir/dns.log")"
podman exec bfb-sidecar bfb doctor --key 42 /etc/bfb/domains | tail -n 1
podman exec bfb-sidecar bfb invalidate customer 42 --wait
podman exec bfb-sidecar bfb status | sed -n 1,2p

echo "== stopped as the kubelet does"
podman stop --time 30 bfb-sidecar >/dev/null
ended=$(podman inspect bfb-sidecar --format '{{.State.ExitCode}}')
[ "$ended" = 0 ] || fail "the sidecar ended with $ended, expected 0: $(podman logs bfb-sidecar 2>&1)"
echo "the image is well"
