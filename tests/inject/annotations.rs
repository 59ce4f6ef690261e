//! The table of annotations in `docs/kubernetes.md` is the one of the code, and each annotation has
//! its effect.

use std::collections::BTreeSet;
use std::fs;

use bfb::resources::MemoryLimit;
use bfb::settings::{annotations, annotations_table};

use super::injected;
use crate::support::sidecar::bfb;

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/kubernetes.md");
const BEGIN: &str =
    "<!-- begin annotations: `UPDATE_DOCS=1 cargo test annotations` writes them -->\n";
const END: &str = "<!-- end annotations -->\n";

/// Flags of `bfb serve` that no annotation stands for, with the reason.
const WITHOUT: [(&str, &str); 9] = [
    ("admin", "a socket of the sidecar's own"),
    ("socket-mode", "0666 where the socket is shared: the volume says who reaches it"),
    ("allow-remote", "the sidecar is its pod's alone"),
    ("allow-host", "the pod's containers call localhost"),
    ("ca", "`ca.crt` comes with the identity"),
    ("memory-limit", "follows from the container's limit, which `bfb.dev/memory-limit` sets"),
    ("record", "for `kubectl exec`"),
    ("replay", "for `kubectl exec`"),
    ("help", "is no setting"),
];

#[test]
fn the_page_holds_the_table() {
    let page = fs::read_to_string(PAGE).unwrap();
    let (before, rest) = page.split_once(BEGIN).expect("the page says where the table begins");
    let (_, after) = rest.split_once(END).expect("the page says where the table ends");
    let right = format!("{before}{BEGIN}{}{END}{after}", annotations_table());
    if page != right && std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(PAGE, &right).unwrap();
    } else {
        assert_eq!(page, right, "`UPDATE_DOCS=1 cargo test annotations` writes it");
    }
}

/// The flags in the help of `bfb serve`.
fn flags_of_serve() -> BTreeSet<String> {
    let help = bfb().args(["serve", "--help"]).output().unwrap().stdout;
    let help = String::from_utf8(help).unwrap();
    let flags = help.lines().filter_map(|line| {
        let (before, flag) = line.split_once("--")?;
        matches!(before.trim(), "" | "-h,").then_some(flag)
    });
    flags
        .map(|flag| flag.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '-').collect())
        .collect()
}

#[test]
fn every_flag_of_serve_has_an_annotation_or_a_reason_to_have_none() {
    let flags = flags_of_serve();
    assert!(flags.contains("listen") && flags.contains("bus-loss"), "{flags:?}");
    let with_flag = annotations().filter(|row| row.flag.is_some());
    let of_table: BTreeSet<_> = with_flag.map(|row| row.name).collect();
    for flag in &flags {
        let has_reason = WITHOUT.iter().any(|(without, _)| without == flag);
        assert!(of_table.contains(&**flag) != has_reason, "--{flag}");
    }
    for flag in of_table {
        assert!(flags.contains(flag), "there is no --{flag}");
    }
}

#[test]
fn every_annotation_changes_the_pod() {
    let pod = |annotations: &str| {
        let text = format!(
            "apiVersion: v1\nkind: Pod\nmetadata:\n  name: a\n  annotations:\n    bfb.dev/inject: \
             customer\n{annotations}\
             spec:\n  containers: [{{name: app, image: x}}]\n"
        );
        let pod = &super::documents(&injected(&[], &text))[0];
        pod["spec"].clone()
    };
    for row in annotations() {
        let (value, beside) = match row.name {
            "inject" => ("orders", ""),
            "status" | "undo" => continue,
            "image" => ("other:1", ""),
            "identity" | "redis-identity" => ("secret:other", ""),
            "identity-names" => ("web.shop.svc", "    bfb.dev/identity: issuer:shop\n"),
            "env-from" => ("configmap:other", ""),
            "memory" => ("1GiB", ""),
            "redis" => ("redis://other:1", ""),
            "redis-auth" | "redis-ca" | "seal-key" => ("secret:other/key", ""),
            "namespace" | "trace-key" => ("other", ""),
            "verify" => ("1%", ""),
            "lease" | "failover-grace" | "drain" => ("4s", ""),
            "bus-loss" => ("fail", ""),
            "listen" => ("127.0.0.1:1234", ""),
            "probes" => ("0.0.0.0:1234", ""),
            "request-cache-control" => ("ignore", ""),
            "log" => ("debug", ""),
            "log-format" => ("json", ""),
            "cpu-request" | "cpu-limit" => ("77m", ""),
            "memory-request" => ("111Mi", ""),
            "memory-limit" => ("999Mi", ""),
            "user" => ("1234", ""),
            _ => ("true", ""),
        };
        let needs_redis = ["redis-", "seal-", "lease", "failover", "bus-", "namespace"]
            .iter()
            .any(|it| row.name.starts_with(it));
        let redis = if needs_redis { "    bfb.dev/redis: secret:redis/url\n" } else { "" };
        let others = format!("{beside}{redis}");
        let with = if row.name == "inject" {
            let text = pod(&others).to_string();
            assert!(text.contains("bfb-domain-customer"));
            continue;
        } else {
            pod(&format!("{others}    bfb.dev/{}: \"{value}\"\n", row.name))
        };
        assert_ne!(with, pod(&others), "bfb.dev/{} changes nothing", row.name);
        let variables = with["initContainers"][0]["env"].as_array().unwrap();
        if let Some(variable) = row.variable() {
            assert!(
                variables.iter().any(|it| it["name"] == *variable),
                "bfb.dev/{}: no {variable}",
                row.name
            );
        }
    }
}

/// The memory limit that `bfb inject` writes must suffice for the limits that `bfb serve` derives
/// from it: else the sidecar would not start.
#[test]
fn a_sidecar_fits_into_the_limit_that_it_is_given_whatever_its_memory() {
    for mebibytes in [1_u64, 64, 1_000, 1_024, 1_025, 2_048, 16_384] {
        let text = format!(
            "apiVersion: v1\nkind: Pod\nmetadata:\n  name: a\n  annotations:\n    bfb.dev/inject: \
             customer\n    \
             bfb.dev/memory: {mebibytes}MiB\nspec:\n  containers: [{{name: app, image: x}}]\n"
        );
        let pod = &super::documents(&injected(&[], &text))[0];
        let limit =
            pod["spec"]["initContainers"][0]["resources"]["limits"]["memory"].as_str().unwrap();
        let limit = limit.strip_suffix("Mi").unwrap().parse::<u64>().unwrap() << 20;
        let fits = MemoryLimit::new(None, Some(limit)).for_work(mebibytes << 20);
        assert!(fits.is_ok(), "{mebibytes} MiB in {limit} bytes");
    }
}
