"""Makes the schemas in this folder: the strict OpenAPI schemas of what has pods, and of what `k8s/` has beside them, of three
versions of Kubernetes.

They come from the PyPI package kubernetes-validate (Apache-2.0), without their prose and with what they need of each other:

    pip install kubernetes-validate==1.37.0 && python3 make.py
"""

import importlib.util
import json
import pathlib

VERSIONS = ["1.29.0", "1.31.0", "1.37.0"]
ROOTS = [
    "cronjob-batch-v1", "daemonset-apps-v1", "deployment-apps-v1", "job-batch-v1", "pod-v1", "podtemplate-v1",
    "replicaset-apps-v1", "replicationcontroller-v1", "statefulset-apps-v1",
    "clusterrole-rbac-v1", "clusterrolebinding-rbac-v1", "configmap-v1", "mutatingwebhookconfiguration-admissionregistration-v1",
    "namespace-v1", "networkpolicy-networking-v1", "poddisruptionbudget-policy-v1", "role-rbac-v1", "rolebinding-rbac-v1",
    "secret-v1", "service-v1", "serviceaccount-v1",
]


def plain(value):
    """Without prose, and with references within one file."""
    if isinstance(value, list):
        return [plain(item) for item in value]
    if not isinstance(value, dict):
        return value
    kept = {}
    for key, item in value.items():
        if (key == "description" and isinstance(item, str)) or key.startswith("x-kubernetes-"):
            continue
        kept[key] = "#/$defs/" + item.rsplit("/", 1)[1] if key == "$ref" else plain(item)
    return kept


def references(value):
    if isinstance(value, list):
        return [name for item in value for name in references(item)]
    if not isinstance(value, dict):
        return []
    return [
        name
        for key, item in value.items()
        for name in ([item.rsplit("/", 1)[1]] if key == "$ref" else references(item))
    ]


def main():
    found = importlib.util.find_spec("kubernetes_validate").submodule_search_locations[0]
    package = pathlib.Path(found) / "kubernetes-json-schema"
    for version in VERSIONS:
        folder = package / f"v{version}-local-strict"
        known = json.loads((folder / "_definitions.json").read_text())["$defs"]
        needed = {}
        for root in ROOTS:
            schema = plain(json.loads((folder / f"{root}.json").read_text()))
            schema.pop("$id", None)
            schema.pop("$schema", None)
            needed[root] = schema
        waiting = references(list(needed.values()))
        while waiting:
            name = waiting.pop()
            if name not in needed:
                needed[name] = plain(known[name])
                waiting += references(needed[name])
        lines = [f"{json.dumps(name)}:{json.dumps(needed[name], separators=(',', ':'))}" for name in sorted(needed)]
        text = '{"$schema":"https://json-schema.org/draft/2020-12/schema","$defs":{\n' + ",\n".join(lines) + "\n}}\n"
        minor = version.rsplit(".", 1)[0]
        pathlib.Path(__file__).with_name(f"kubernetes-{minor}.json").write_text(text)


main()
