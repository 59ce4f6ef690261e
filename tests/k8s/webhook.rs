//! The webhook's own manifests: what the API server asks it about, under which names it is found,
//! and what it may do.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{items, object, read, rendered, text};

/// The overlays that install it, each with its policy.
const INSTALLS: [(&str, &str); 3] =
    [("fail", "Fail"), ("ignore", "Ignore"), ("cert-manager", "Fail")];

#[test]
fn the_api_server_asks_about_new_pods_only_and_never_about_the_webhooks_own() {
    for (overlay, policy) in INSTALLS {
        let objects = rendered(overlay);
        let webhooks = &object(&objects, "MutatingWebhookConfiguration", "bfb")["webhooks"];
        let names: Vec<&str> = items(webhooks).map(|it| text(&it["name"])).collect();
        assert_eq!(names, ["annotated.bfb.dev", "labelled.bfb.dev"]);
        for webhook in items(webhooks) {
            let rule = json!([{
                "operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"],
                "resources": ["pods"], "scope": "Namespaced",
            }]);
            assert_eq!(webhook["rules"], rule);
            assert_eq!(webhook["failurePolicy"], policy, "{overlay}");
            assert_eq!(webhook["sideEffects"], "None");
            assert_eq!(webhook["reinvocationPolicy"], "IfNeeded");
            assert_eq!(webhook["admissionReviewVersions"], json!(["v1"]));
            let own = json!({
                "key": "kubernetes.io/metadata.name", "operator": "NotIn",
                "values": ["kube-system", "bfb-system"],
            });
            assert_eq!(webhook["namespaceSelector"]["matchExpressions"][0], own);
            assert!(
                webhook["clientConfig"].get("caBundle").is_none(),
                "it is the webhook's to write"
            );
        }
        let label = &webhooks[1]["namespaceSelector"]["matchExpressions"];
        assert_eq!(label[1], json!({"key": "bfb.dev/inject", "operator": "Exists"}));
    }
}

#[test]
fn it_is_found_at_its_service_by_the_names_in_its_certificate() {
    for (overlay, _) in INSTALLS {
        let objects = rendered(overlay);
        let webhooks = &object(&objects, "MutatingWebhookConfiguration", "bfb")["webhooks"];
        for webhook in items(webhooks) {
            let service = json!({"name": "bfb-webhook", "namespace": "bfb-system",
                "path": "/mutate", "port": 443});
            assert_eq!(webhook["clientConfig"], json!({ "service": service }));
        }
        let service = object(&objects, "Service", "bfb-webhook");
        assert_eq!(service["metadata"]["namespace"], "bfb-system");
        assert_eq!(service["spec"]["ports"][0]["port"], 443);
        let deployment = object(&objects, "Deployment", "bfb-webhook");
        assert_eq!(deployment["spec"]["replicas"], 2);
        assert_eq!(
            object(&objects, "PodDisruptionBudget", "bfb-webhook")["spec"]["minAvailable"],
            1
        );
    }
    let objects = rendered("cert-manager");
    let certificate = object(&objects, "Certificate", "bfb-webhook");
    assert!(
        items(&certificate["spec"]["dnsNames"]).any(|name| name == "bfb-webhook.bfb-system.svc")
    );
    let pod = &object(&objects, "Deployment", "bfb-webhook")["spec"]["template"]["spec"];
    assert_eq!(pod["volumes"][0]["secret"]["secretName"], certificate["spec"]["secretName"]);
    assert_eq!(
        pod["containers"][0]["volumeMounts"][0]["mountPath"],
        pod["containers"][0]["args"][4]
    );
    let from = &object(&objects, "MutatingWebhookConfiguration", "bfb")["metadata"]["annotations"];
    assert_eq!(from["cert-manager.io/inject-ca-from"], "bfb-system/bfb-webhook");
}

#[test]
fn the_sidecars_image_is_the_webhooks_own() {
    for (overlay, _) in INSTALLS {
        let objects = rendered(overlay);
        let container = &object(&objects, "Deployment", "bfb-webhook")["spec"]["template"]["spec"]
            ["containers"][0];
        let image = items(&container["env"]).find(|it| it["name"] == "BFB_IMAGE").unwrap();
        assert_eq!(image["value"], container["image"]);
        assert_eq!(container["image"], format!("bfb:{}", env!("CARGO_PKG_VERSION")));
    }
}

/// What the webhook's account may do: `verb resource[/name]`, with `@` and the namespace where it
/// is held to one.
fn rights(objects: &[Value]) -> BTreeSet<String> {
    let mut rights = BTreeSet::new();
    for binding in objects
        .iter()
        .filter(|it| matches!(text(&it["kind"]), "RoleBinding" | "ClusterRoleBinding"))
    {
        let subject =
            json!([{"kind": "ServiceAccount", "name": "bfb-webhook", "namespace": "bfb-system"}]);
        assert_eq!(binding["subjects"], subject);
        let role =
            object(objects, text(&binding["roleRef"]["kind"]), text(&binding["roleRef"]["name"]));
        let place =
            role["metadata"]["namespace"].as_str().map(|it| format!("@{it}")).unwrap_or_default();
        for rule in items(&role["rules"]) {
            let names: Vec<String> =
                items(&rule["resourceNames"]).map(|name| format!("/{}", text(name))).collect();
            let names = if names.is_empty() { vec![String::new()] } else { names };
            for (verb, resource) in items(&rule["verbs"])
                .flat_map(|verb| items(&rule["resources"]).map(move |it| (verb, it)))
            {
                rights.extend(
                    names
                        .iter()
                        .map(|name| format!("{} {}{name}{place}", text(verb), text(resource))),
                );
            }
        }
    }
    rights
}

/// What the webhook's module says that it needs, by what holds besides.
fn needed(ignores: bool, makes_its_own: bool) -> BTreeSet<String> {
    let source = read("src/inject/webhook/mod.rs");
    let rows = source
        .lines()
        .filter_map(|line| line.strip_prefix("//! | "))
        .filter(|row| row.contains('`'));
    let mut needed = BTreeSet::new();
    for row in rows {
        let cells: Vec<&str> = row.trim_end_matches('|').split('|').map(str::trim).collect();
        let [_, what, verbs, place] = cells[..] else { panic!("{row}") };
        let words =
            |cell: &str| cell.split('`').skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>();
        if what.contains("`failurePolicy: Ignore`") && !ignores
            || what.contains("without `--identity`") && !makes_its_own
        {
            continue;
        }
        let resource = words(what).remove(0);
        let name = match resource.as_str() {
            "mutatingwebhookconfigurations" => "/bfb".to_owned(),
            _ => what
                .split_once(": `")
                .map(|(_, name)| format!("/{}", name.split('`').next().unwrap()))
                .unwrap_or_default(),
        };
        let place = if place == "cluster" { "" } else { "@bfb-system" };
        needed.extend(words(verbs).iter().map(|verb| format!("{verb} {resource}{name}{place}")));
    }
    needed
}

#[test]
fn it_may_do_what_it_needs_and_nothing_else() {
    let usual = needed(false, true);
    assert_eq!(usual.len(), 11, "{usual:?}");
    assert_eq!(rights(&rendered("fail")), usual);
    assert_eq!(rights(&rendered("ignore")), needed(true, true));
    // The bundles are cert-manager's.
    let mut with_cert_manager = needed(false, false);
    assert!(with_cert_manager.remove("update mutatingwebhookconfigurations/bfb"));
    assert_eq!(rights(&rendered("cert-manager")), with_cert_manager);
}
