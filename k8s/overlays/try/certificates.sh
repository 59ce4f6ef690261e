#!/bin/sh
# The certificates of the overlay, as Secrets on standard output: an authority made for this one time (its key is kept nowhere),
# the consumer's identity, and one for each upstream, named as the domain file expects. Needs openssl.
#
#   sh k8s/overlays/try/certificates.sh | kubectl apply -f -
#
# In production they come from cert-manager or from the mesh's authority: `bfb.dev/identity` names the issuer.
set -eu

namespace=bfb-try
days=30
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"

key() { openssl ecparam -name prime256v1 -genkey -noout 2>/dev/null | openssl pkcs8 -topk8 -nocrypt; }

key >ca.key
openssl req -x509 -new -key ca.key -days "$days" -subj '/CN=bfb try' -out ca.crt \
  -addext 'basicConstraints=critical,CA:TRUE' -addext 'keyUsage=critical,keyCertSign,cRLSign' 2>/dev/null

# A Secret of the type that cert-manager makes too.
secret() { # its name, the names in the certificate, what it is used for
  key >tls.key
  printf 'subjectAltName=%s\nextendedKeyUsage=%s\nkeyUsage=critical,digitalSignature\nbasicConstraints=critical,CA:FALSE\n' \
    "$2" "$3" >extensions
  openssl req -new -key tls.key -subj "/CN=$1" |
    openssl x509 -req -CA ca.crt -CAkey ca.key -CAcreateserial -days "$days" -extfile extensions -out tls.crt 2>/dev/null
  printf -- '---\napiVersion: v1\nkind: Secret\nmetadata: {name: %s, namespace: %s}\ntype: kubernetes.io/tls\ndata:\n' "$1" "$namespace"
  for file in ca.crt tls.crt tls.key; do
    printf '  %s: %s\n' "$file" "$(base64 <"$file" | tr -d '\n')"
  done
}

secret bfb-identity "URI:spiffe://shop.example/ns/$namespace/sa/consumer" clientAuth
secret upstream-profile URI:spiffe://shop.example/ns/crm/sa/profile serverAuth
secret upstream-orders URI:spiffe://shop.example/ns/shop/sa/orders serverAuth
# `localhost` is for `kubectl port-forward`.
secret upstream-favorites "DNS:favorites.$namespace,DNS:localhost" serverAuth
secret upstream-reviews "DNS:reviews.$namespace,DNS:localhost" serverAuth
