//! The command `bfb inject`: files, folders and standard input, and its messages on standard error.

use std::fs;

use super::{InjectOutput, inject, injected};
use crate::support::sidecar::bfb;

const POD: &str = "apiVersion: v1\nkind: Pod\nmetadata:\n  name: a\n\
                   \x20 annotations: {bfb.dev/inject: customer}\n\
                   spec:\n  containers: [{name: app, image: x}]\n";

/// Runs `bfb inject` with these arguments and variables.
fn run(args: &[&str], variables: &[(&str, &str)]) -> InjectOutput {
    let output = bfb().arg("inject").args(args).envs(variables.iter().copied()).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    InjectOutput { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
}

#[test]
fn a_folder_means_its_manifests_joined_as_they_came() {
    let dir = tempfile::tempdir().unwrap();
    for (name, text) in [
        ("b.yaml", "# b\nkind: A"),
        ("a.yml", "---\nkind: B\n"),
        ("c.json", "{\"kind\": \"C\"}\n"),
        ("d.yaml", "--- # d\nkind: D\n"),
        (".hidden.yaml", "{"),
        ("notes.txt", "{"),
    ] {
        fs::write(dir.path().join(name), text).unwrap();
    }
    fs::create_dir(dir.path().join("folder.yaml")).unwrap();
    let folder = dir.path().to_str().unwrap();
    let output = run(&["-f", folder], &[]);
    assert_eq!(output.code, Some(0), "{}", output.err);
    assert_eq!(
        output.out,
        "---\nkind: B\n---\n# b\nkind: A\n---\n{\"kind\": \"C\"}\n--- # d\nkind: D\n"
    );
    assert_eq!(injected(&[], &output.out), output.out);
    assert_eq!(output.err, "no pods\n");
}

#[test]
fn several_paths_are_taken_in_their_order_and_all_that_is_wrong_is_said_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = dir.path().join(name);
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let one = file("1.yaml", POD);
    let two = file("2.yaml", &POD.replace("customer", "\"false\""));
    let output = run(&["-f", &two, "--file", &one], &[]);
    assert!(
        output.out.starts_with(&format!("{}---\napiVersion", POD.replace("customer", "\"false\""))),
        "{}",
        output.out
    );
    assert_eq!(output.err, "pods: 1 injected, 1 opted out\n");
    let bad = file("3.yaml", &POD.replace("customer", "Customer"));
    let worse = file("4.yaml", "a: [\n");
    let output = run(&["-f", &one, "-f", &bad, "-f", &worse], &[]);
    assert_eq!((output.code, output.out.as_str()), (Some(64), ""));
    assert!(
        output.err.contains("3.yaml:5:")
            && output.err.contains("4.yaml:")
            && output.err.ends_with("2 problems\n"),
        "{}",
        output.err
    );
    let none = dir.path().join("none.yaml");
    let empty = dir.path().join("empty");
    fs::create_dir(&empty).unwrap();
    for wrong in [none, empty] {
        assert_eq!(run(&["-f", wrong.to_str().unwrap()], &[]).code, Some(64), "{wrong:?}");
    }
    for usage in [
        &[][..],
        &["-f", "-", "-f", "-"],
        &["-f", &one, "--uninject", "--domain", "a"],
        &["-f", &one, "--set", "a"],
    ] {
        assert_eq!(run(usage, &[]).code, Some(64), "{usage:?}");
    }
}

#[test]
fn what_differs_between_environments_can_be_a_variable() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("pod.yaml");
    fs::write(&file, POD).unwrap();
    let output = run(
        &["-f", file.to_str().unwrap()],
        &[("BFB_IMAGE", "shop/bfb:9"), ("BFB_SET", "log=info,bfb=debug\nuser=7")],
    );
    assert!(
        output.out.contains("\"image\": \"shop/bfb:9\"")
            || output.out.contains("image: shop/bfb:9"),
        "{}",
        output.out
    );
    assert!(
        output.out.contains("info,bfb=debug") && output.out.contains("runAsUser: 7"),
        "{}",
        output.out
    );
}

#[test]
fn a_second_time_says_so_and_other_defaults_change_nothing() {
    let once = injected(&[], POD);
    let output = inject(&["--domain", "orders", "--image", "other:1"], &once);
    assert_eq!(
        (output.out.as_str(), output.err.as_str()),
        (once.as_str(), "pods: 1 injected before\n")
    );
    let output = inject(&["--uninject"], &once);
    assert_eq!((output.out.as_str(), output.err.as_str()), (POD, "pods: 1 uninjected\n"));
}

#[test]
fn what_a_cluster_made_of_it_is_uninjected_too() {
    // As `kubectl get -o yaml` prints it: keys sorted, defaults filled in, and fields that others
    // added.
    let once = injected(&["--set", "unix-socket=true"], POD);
    let mut pod = super::documents(&once).remove(0);
    pod["status"] = serde_json::json!({"phase": "Running"});
    pod["metadata"]["annotations"]["other"] = "added".into();
    let volumes = pod["spec"]["volumes"].as_array_mut().unwrap();
    volumes.push(serde_json::json!({"name": "kube-api-access", "projected": {"sources": []}}));
    volumes.reverse();
    let text = serde_json::to_string_pretty(&pod).unwrap();
    let back = super::documents(&injected(&["--uninject"], &text)).remove(0);
    assert_eq!(
        back["spec"]["volumes"],
        serde_json::json!([{"name": "kube-api-access", "projected": {"sources": []}}])
    );
    assert_eq!(back["spec"]["containers"], serde_json::json!([{"name": "app", "image": "x"}]));
    assert!(back["spec"].get("initContainers").is_none());
    let annotations = &back["metadata"]["annotations"];
    assert_eq!(*annotations, serde_json::json!({"bfb.dev/inject": "customer", "other": "added"}));
}
