"""Makes `custom.json`: the schemas of the kinds of others that `k8s/` uses, cut from their definitions, without prose, and strict.

They come from two Go modules (Apache-2.0):

    dir() { go mod download -json "$1" | python3 -c 'import json, sys; print(json.load(sys.stdin)["Dir"])'; }
    pip install pyyaml && python3 make.py \\
        "$(dir github.com/prometheus-operator/prometheus-operator@v0.79.2)/example/prometheus-operator-crd" \\
        "$(dir github.com/cert-manager/cert-manager@v1.18.2)/deploy/crds"
"""

import json
import pathlib
import sys

import yaml

FILES = [
    "monitoring.coreos.com_podmonitors.yaml", "monitoring.coreos.com_prometheusrules.yaml",
    "crd-certificates.yaml", "crd-issuers.yaml",
]


def plain(schema):
    """Without prose; what a definition does not name is refused, as `kubectl apply --validate=strict` does."""
    kept = {}
    for key, item in schema.items():
        if key in ("description", "format", "example") or key.startswith("x-kubernetes-"):
            continue
        if key == "properties":
            item = {name: plain(child) for name, child in item.items()}
        elif key in ("items", "additionalProperties") and isinstance(item, dict):
            item = plain(item)
        kept[key] = item
    if "properties" in kept and "additionalProperties" not in kept:
        kept["additionalProperties"] = bool(schema.get("x-kubernetes-preserve-unknown-fields"))
    return kept


def main():
    lines = []
    for name in FILES:
        (file,) = [pathlib.Path(folder) / name for folder in sys.argv[1:] if (pathlib.Path(folder) / name).exists()]
        definition = yaml.safe_load(file.read_text().replace("{{", "").replace("}}", ""))["spec"]
        (version,) = [version for version in definition["versions"] if version["name"] == "v1"]
        schema = plain(version["schema"]["openAPIV3Schema"])
        schema["properties"].pop("status", None)
        schema["properties"]["metadata"] = {"type": "object", "required": ["name", "namespace"]}
        kind = f"{definition['group']}/v1 {definition['names']['kind']}"
        lines.append(f"{json.dumps(kind)}:{json.dumps(schema, separators=(',', ':'))}")
    text = "{\n" + ",\n".join(lines) + "\n}\n"
    pathlib.Path(__file__).with_name("custom.json").write_text(text)


main()
