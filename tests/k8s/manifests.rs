//! The files and what kustomize makes of them: nothing is named that is not there, nothing is there
//! that is not named, and every object fits the definition of its kind in every version of
//! Kubernetes that is promised.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use jsonschema::Validator;
use serde_json::Value;

use super::{OVERLAYS, documents, items, object, read, rendered, root, text};
use crate::inject::{restricted, schemas};

/// The kinds that are not Kubernetes' own, with the definitions that `schemas/make.py` cuts out.
static CUSTOM: LazyLock<Vec<(String, Validator)>> = LazyLock::new(|| {
    let Value::Object(schemas) = serde_json::from_str(include_str!("schemas/custom.json")).unwrap()
    else {
        panic!()
    };
    schemas
        .into_iter()
        .map(|(kind, schema)| (kind, jsonschema::validator_for(&schema).unwrap()))
        .collect()
});

/// Every file below `k8s/`, relative to the root.
fn files(folder: &Path, found: &mut BTreeSet<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, found);
        } else {
            found.insert(path.strip_prefix(root("")).unwrap().to_owned());
        }
    }
}

/// Follows a folder's kustomization; what it reaches goes into `reached`.
fn follow(folder: &Path, reached: &mut BTreeSet<PathBuf>) {
    let file = folder.join("kustomization.yaml");
    let kustomization = documents(file.to_str().unwrap()).remove(0);
    if !reached.insert(file.clone()) {
        return;
    }
    for list in ["resources", "components"] {
        for name in items(&kustomization[list]) {
            let path = normal(&folder.join(text(name)));
            if root(path.to_str().unwrap()).is_dir() {
                follow(&path, reached);
            } else {
                reached.insert(path);
            }
        }
    }
    let generators =
        ["configMapGenerator", "secretGenerator"].map(|list| items(&kustomization[list]));
    for name in generators.into_iter().flatten().flat_map(|generator| items(&generator["files"])) {
        let name = text(name);
        reached.insert(folder.join(name.split_once('=').map_or(name, |(_, path)| path)));
    }
}

/// Without `..`.
fn normal(path: &Path) -> PathBuf {
    let mut normal = PathBuf::new();
    for part in path.components() {
        if part.as_os_str() == ".." { assert!(normal.pop()) } else { normal.push(part) }
    }
    normal
}

#[test]
fn every_file_is_named_by_a_kustomization_and_every_name_is_a_file() {
    let mut there = BTreeSet::new();
    files(&root("k8s"), &mut there);
    // What people read and run.
    there.retain(|file| file.extension().is_none_or(|it| it != "md" && it != "sh"));
    let mut reached = BTreeSet::new();
    let folders: BTreeSet<_> =
        fs::read_dir(root("k8s/overlays")).unwrap().map(|it| it.unwrap().file_name()).collect();
    assert_eq!(folders, OVERLAYS.map(Into::into).into());
    for overlay in OVERLAYS {
        follow(&Path::new("k8s/overlays").join(overlay), &mut reached);
    }
    assert_eq!(reached, there);
}

#[test]
fn what_is_tested_here_was_made_of_these_files() {
    let mut there = BTreeSet::new();
    files(&root("k8s"), &mut there);
    let mut made_of = String::new();
    there.retain(|file| file.extension().is_some_and(|it| it == "yaml" || it == "json"));
    let mut names: Vec<&str> = there.iter().map(|file| file.to_str().unwrap()).collect();
    names.sort_unstable();
    for name in names {
        let digest =
            aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &fs::read(root(name)).unwrap());
        for byte in digest.as_ref() {
            write!(made_of, "{byte:02x}").unwrap();
        }
        writeln!(made_of, "  {name}").unwrap();
    }
    assert_eq!(
        made_of,
        read("tests/k8s/rendered/made-of"),
        "`sh tests/k8s/render.sh` makes `rendered/` anew"
    );
}

/// What is wrong with an object; it must be of a known kind.
#[track_caller]
fn faults(object: &Value) -> Vec<String> {
    let kind = format!("{} {}", text(&object["apiVersion"]), text(&object["kind"]));
    if let Some((_, validator)) = CUSTOM.iter().find(|(custom, _)| *custom == kind) {
        return validator
            .iter_errors(object)
            .map(|error| format!("{error} at {}", error.instance_path()))
            .collect();
    }
    let (wrong, known) = schemas::judged(object);
    assert_eq!(known, schemas::VERSIONS.len(), "there is no definition of {kind}");
    wrong
}

#[test]
fn every_object_is_what_kubernetes_takes() {
    for overlay in OVERLAYS {
        for object in rendered(overlay) {
            assert_eq!(
                faults(&object),
                Vec::<String>::new(),
                "{overlay}: {}",
                object["metadata"]["name"]
            );
        }
    }
}

#[test]
fn a_misspelt_member_of_any_kind_is_found() {
    let mut kinds = BTreeSet::new();
    for mut object in OVERLAYS.into_iter().flat_map(rendered) {
        object["sepc"] = Value::from(1);
        assert_ne!(faults(&object), Vec::<String>::new(), "{}", object["kind"]);
        kinds.insert(text(&object["kind"]).to_owned());
    }
    assert!(kinds.len() > 14, "{kinds:?}");
    let mut monitor = object(&rendered("monitoring"), "PodMonitor", "bfb-webhook").clone();
    monitor["spec"]["podMetricsEndpoints"][0]["tlsConfig"]["insecure"] = Value::from(true);
    assert_eq!(faults(&monitor).len(), 1);
}

#[test]
fn every_pod_keeps_to_the_restricted_standard_and_asks_for_little() {
    for (overlay, pods) in
        [("cert-manager", 1), ("fail", 1), ("ignore", 1), ("monitoring", 0), ("try", 3)]
    {
        let objects = rendered(overlay);
        let found: Vec<&Value> = objects.iter().filter_map(restricted::pod).collect();
        assert_eq!(found.len(), pods, "{overlay}");
        for pod in found {
            for container in items(&pod["spec"]["containers"]) {
                assert_eq!(
                    restricted::violations(container, pod),
                    Vec::<String>::new(),
                    "{overlay}"
                );
                let resources = &container["resources"];
                assert!(
                    resources["requests"]["cpu"].is_string()
                        && resources["limits"]["memory"].is_string()
                );
                assert!(
                    !text(&container["image"]).ends_with("latest")
                        && text(&container["image"]).contains(':')
                );
            }
        }
    }
}

#[test]
fn every_namespace_is_denied_everything_that_is_not_allowed() {
    for overlay in ["fail", "ignore", "cert-manager", "try"] {
        let objects = rendered(overlay);
        let deny = object(&objects, "NetworkPolicy", "default-deny");
        assert_eq!(
            deny["spec"],
            serde_json::json!({"podSelector": {}, "policyTypes": ["Ingress", "Egress"]})
        );
        let policies = objects.iter().filter(|it| it["kind"] == "NetworkPolicy");
        for policy in policies.filter(|it| it["metadata"]["name"] != "default-deny") {
            let selected = &policy["spec"]["podSelector"]["matchLabels"];
            let pods = objects.iter().filter_map(restricted::pod);
            let matching = pods.filter(|pod| fits(selected, &pod["metadata"]["labels"])).count();
            assert_eq!(matching, 1, "{overlay}: {}", policy["metadata"]["name"]);
        }
        let namespace = objects.iter().find(|it| it["kind"] == "Namespace").unwrap();
        assert_eq!(
            namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"],
            "restricted"
        );
    }
}

/// Whether all `wanted` labels are there.
fn fits(wanted: &Value, labels: &Value) -> bool {
    wanted
        .as_object()
        .is_some_and(|wanted| wanted.iter().all(|(name, value)| labels[name] == *value))
}

#[test]
fn every_service_finds_its_pods_and_their_port() {
    for overlay in OVERLAYS {
        let objects = rendered(overlay);
        for service in objects.iter().filter(|it| it["kind"] == "Service") {
            let name = &service["metadata"]["name"];
            let mut pods = objects.iter().filter_map(restricted::pod);
            let pod =
                pods.find(|pod| fits(&service["spec"]["selector"], &pod["metadata"]["labels"]));
            let containers =
                items(&pod.unwrap_or_else(|| panic!("{name} has no pods"))["spec"]["containers"]);
            let ports: Vec<&Value> =
                containers.flat_map(|it| items(&it["ports"])).map(|it| &it["name"]).collect();
            for port in items(&service["spec"]["ports"]) {
                assert!(ports.contains(&&port["targetPort"]), "{name}: {port}");
            }
        }
    }
}
