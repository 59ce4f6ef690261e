//! The start of the webhook: its requirements, and the error and exit code if one is missing.

use crate::support::apiserver::Apiserver;
use crate::support::sidecar::bfb;
use crate::support::webhook::Webhook;

fn code_and_text(output: &std::process::Output) -> (Option<i32>, String) {
    (output.status.code(), String::from_utf8(output.stderr.clone()).unwrap())
}

#[tokio::test]
async fn a_cluster_that_knows_no_native_sidecars_is_refused() {
    for minor in ["28", "28+", "4", ""] {
        let server = Apiserver::of_minor(minor).await;
        let (code, text) = code_and_text(&Webhook::refused(&server, &[]).await);
        assert_eq!(code, Some(69), "{text}");
        assert!(
            text.contains(&format!("the cluster is Kubernetes 1.{minor}, which would wait")),
            "{text}"
        );
        assert!(text.contains("expected 1.29 or newer (hint: "), "{text}");
    }
    for minor in ["29", "29+"] {
        Webhook::ready(&Apiserver::of_minor(minor).await, &[]).await;
    }
}

#[tokio::test]
async fn what_is_missing_is_said_with_the_exit_code_that_fits() {
    let mut server = Apiserver::start().await;
    let nowhere = server.kubeconfig().with_file_name("nowhere");
    let nowhere = nowhere.to_str().unwrap();
    let run = |args: &[&str]| {
        let mut command = bfb();
        command.arg("webhook").args(args);
        code_and_text(&command.output().unwrap())
    };
    let (code, text) = run(&[]);
    assert!(
        code == Some(64) && text.contains("there is no cluster") && text.contains("--kubeconfig"),
        "{code:?} {text}"
    );
    let (code, text) = run(&["--kubeconfig", nowhere]);
    assert!(code == Some(69) && text.contains("nowhere` cannot be used"), "{code:?} {text}");
    let (code, text) = run(&["--set", "memry=1"]);
    assert!(code == Some(64) && text.contains("did you mean `memory`?"), "{code:?} {text}");
    let (code, text) = code_and_text(&Webhook::refused(&server, &["--identity", nowhere]).await);
    assert!(code == Some(69) && text.contains("tls.crt`: no such file"), "{code:?} {text}");
    let identity = tempfile::tempdir().unwrap();
    std::fs::create_dir(identity.path().join("crl.pem")).unwrap();
    for name in ["tls.crt", "tls.key"] {
        std::fs::write(identity.path().join(name), "").unwrap();
    }
    let identity = identity.path().to_str().unwrap();
    let (code, text) = code_and_text(&Webhook::refused(&server, &["--identity", identity]).await);
    assert!(code == Some(69) && text.contains("crl.pem`: cannot be read"), "{code:?} {text}");
    server.breaks(Some("/version"));
    let (code, text) = code_and_text(&Webhook::refused(&server, &[]).await);
    assert!(
        code == Some(69) && text.contains("answered 500 InternalError to `GET /version`"),
        "{code:?} {text}"
    );
    server.stop().await;
    let (code, text) = code_and_text(&Webhook::refused(&server, &[]).await);
    assert!(code == Some(69) && text.contains("did not answer `GET /version`"), "{code:?} {text}");
}
