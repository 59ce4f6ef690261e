//! Published manifests of other projects. `public/README.md` has the source of each.

use std::fs;
use std::path::Path;

use super::{data, documents, holds, inject, injected, restricted};

#[test]
fn public_manifests_get_sidecars_and_keep_every_byte() {
    let mut pods = 0;
    for (name, text, _) in data("public") {
        if text.contains("hostNetwork: true") {
            continue;
        }
        let out = injected(&["--domain", "customer"], &text);
        holds(&name, &["--domain", "customer"], &text, &out);
        let objects: Vec<_> = documents(&out).iter().flat_map(restricted::objects).collect();
        let with_pods = objects.iter().filter_map(restricted::pod);
        for pod in with_pods {
            assert_eq!(pod["metadata"]["annotations"]["bfb.dev/status"], "injected", "{name}");
            pods += 1;
        }
        let unchanged = injected(&[], &text);
        assert_eq!(unchanged, text, "{name}: nobody asked");
    }
    assert!(pods >= 15, "{pods} pods");
}

#[test]
fn what_uses_the_nodes_network_is_refused_and_can_be_left_out() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/inject/public/flannel.yaml");
    let text = fs::read_to_string(file).unwrap();
    let output = inject(&["--domain", "customer"], &text);
    assert_eq!(output.code, Some(64));
    assert!(
        output.err.contains("hostNetwork: true") && output.err.contains("hint"),
        "{}",
        output.err
    );
    let labels = "      labels:\n        tier: node\n";
    let out = format!("      annotations:\n        bfb.dev/inject: \"false\"\n{labels}");
    assert!(text.contains(labels), "flannel's template has labels");
    let left_out = text.replace(labels, &out);
    assert_eq!(injected(&["--domain", "customer"], &left_out), left_out);
}

#[test]
fn every_public_manifest_says_where_it_is_from() {
    let readme = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/inject/public/README.md");
    let readme = fs::read_to_string(readme).unwrap();
    for (name, ..) in data("public") {
        assert!(readme.contains(&format!("`{name}.yaml`")), "{name}");
    }
}
