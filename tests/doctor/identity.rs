//! The client identity of `bfb doctor`: one that cannot be used, and none.

use std::process::Output;

use bfb::identity::issue::{Leaf, Usage};
use http::Uri;

use super::{Patient, doctor, findings, parsed, text};
use crate::support::pki::{Asks, profile};

#[tokio::test]
async fn our_own_certificate_must_be_usable_as_a_client() {
    let patient = Patient::new();
    let upstream = patient.upstream(&profile(), Asks::Always).await;
    let server_only = patient
        .pki
        .authority
        .issue(&Leaf::new("web").uri("spiffe://a/b").usage(Usage::Server))
        .unwrap();
    server_only.write(patient.pki.dir(), patient.pki.authority.ca_pem()).unwrap();
    let file = patient.file(&[("profile", upstream.origin(), "/customers/{key}")], "");
    let (report, code) = parsed(&patient.doctor(file, &["--format", "json"]).await);
    assert_eq!((findings(&report["identity"]), code), (vec!["error not-a-client".to_owned()], 1));
    assert_eq!((&report["identity"]["client_auth"], &report["ok"]), (&false.into(), &false.into()));
}

#[tokio::test]
async fn wrong_input_and_a_missing_identity_have_their_exit_codes() {
    let patient = Patient::new();
    let origin: Uri = "https://127.0.0.1:1".parse().unwrap();
    let file = patient.file(&[("profile", origin, "/customers/{key}")], "");
    let code = |output: Output| output.status.code().unwrap();
    assert_eq!(code(doctor(file.clone(), &[]).await), 64, "no identity is given");
    assert_eq!(code(doctor(file.clone(), &["--identity", "/nowhere"]).await), 69);
    assert_eq!(
        code(patient.doctor(file.clone(), &["--key", "x"]).await),
        64,
        "no key of any domain"
    );
    std::fs::write(&file, "domain: 1\n").unwrap();
    assert_eq!(code(patient.doctor(file, &[]).await), 64);
}

#[tokio::test]
async fn a_source_without_an_identity_is_refused_at_its_place_beside_a_recording_too() {
    let patient = Patient::new();
    let origin: Uri = "https://127.0.0.1:1".parse().unwrap();
    let file = patient.file(&[("profile", origin, "/customers/{key}")], "");
    for args in [&[][..], &["--replay", "/nowhere"]] {
        let output = doctor(file.clone(), args).await;
        let report = text(&output);
        assert_eq!(output.status.code(), Some(64), "{report}");
        let names_it =
            report.contains("customer.yaml:5:10") && report.contains("needs `--identity`");
        assert!(names_it, "{report}");
    }
}
