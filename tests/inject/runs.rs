//! What a pod is told runs: the injected container's arguments and variables, with the pod's folders and fields put in their
//! places as the kubelet would, in a real process that is probed, asked and stopped as a pod's is.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};
use tempfile::TempDir;

use super::{documents, injected};
use crate::support::client::{Http, PATIENCE, To, get, once};
use crate::support::domain::{DomainFile, mutual};
use crate::support::pki::Pki;
use crate::support::redis::free;
use crate::support::sidecar::bfb;
use crate::support::upstream::Reply;

/// The folders of a pod, on this machine.
struct Folders {
    dir: TempDir,
    identity: PathBuf,
}

impl Folders {
    /// Where a path of the pod is.
    fn place(&self, text: &str) -> String {
        let dir = |name: &str| self.dir.path().join(name).to_str().unwrap().to_owned();
        text.replace("/etc/bfb/domains", &dir("domains"))
            .replace("/etc/bfb/identity", self.identity.to_str().unwrap())
            .replace("/run/bfb-admin", &dir("admin"))
            .replace("/run/bfb/", &format!("{}/", dir("socket")))
            .replace("0.0.0.0", "127.0.0.1")
    }

    /// The container's variables.
    fn variables(&self, container: &Value) -> Vec<(String, String)> {
        let of = |variable: &Value| {
            let value = match variable.pointer("/valueFrom/fieldRef/fieldPath").and_then(Value::as_str) {
                Some("metadata.name") => "web-7c9f-x2k".to_owned(),
                Some("metadata.namespace") => "shop".to_owned(),
                Some(other) => panic!("{other}"),
                None => self.place(variable["value"].as_str().unwrap()).replace("$$", "$"),
            };
            (variable["name"].as_str().unwrap().to_owned(), value)
        };
        container["env"].as_array().unwrap().iter().map(of).collect()
    }
}

/// The process of a container; killed when dropped.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn container(listen: u16, probes: u16) -> Value {
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "web", "annotations": {
            "bfb.dev/inject": "customer",
            "bfb.dev/listen": format!("127.0.0.1:{listen}"),
            "bfb.dev/probes": format!("0.0.0.0:{probes}"),
            "bfb.dev/unix-socket": "true",
            "bfb.dev/memory": "32MiB",
            "bfb.dev/log": "info,bfb::sources=debug",
            "bfb.dev/trace-key": "$(HOME)",
            "bfb.dev/explain": "true",
            "bfb.dev/request-cache-control": "ignore",
            "bfb.dev/drain": "20s",
        }},
        "spec": {"containers": [{"name": "app", "image": "shop/app:1"}]},
    });
    let text = injected(&[], &pod.to_string());
    documents(&text)[0]["spec"]["initContainers"][0].clone()
}

#[tokio::test]
async fn the_injected_container_runs_and_is_probed_asked_and_stopped() {
    let pki = Pki::new();
    let upstream = mutual(&pki).await;
    upstream.handles("/profile", |_| Reply::json(r#"{"name":"x"}"#));
    let domain = DomainFile::of("customer").source("profile", &upstream, "/profile?key={key}", &[]);
    let folders = Folders { dir: tempfile::tempdir().unwrap(), identity: pki.dir().to_owned() };
    for folder in ["domains", "admin", "socket"] {
        fs::create_dir(folders.dir.path().join(folder)).unwrap();
    }
    fs::write(folders.dir.path().join("domains/customer.yaml"), domain.text()).unwrap();
    let (listen, probes) = (free(), free());
    let container = container(listen.port(), probes.port());
    let variables = folders.variables(&container);

    let mut command: Command = bfb();
    let args = container["args"].as_array().unwrap().iter().map(|arg| folders.place(arg.as_str().unwrap()));
    command.args(args).envs(variables.iter().cloned()).stderr(Stdio::piped());
    let mut process = Process(command.spawn().unwrap());
    let mut log = BufReader::new(process.0.stderr.take().unwrap()).lines();
    let (mut process, mut log, said) = tokio::task::spawn_blocking(move || {
        let said: Vec<String> =
            log.by_ref().map_while(Result::ok).take_while(|it| !it.contains("probes and metrics")).collect();
        (process, log, said)
    })
    .await
    .unwrap();
    let said = said.join("\n");
    assert!(!said.contains("unknown variable"), "{said}");
    assert!(said.contains("web-7c9f-x2k") && said.contains("shop"), "{said}");

    for probe in ["startupProbe", "livenessProbe", "readinessProbe"] {
        let asked = &container[probe]["httpGet"];
        assert_eq!(asked["port"], probes.port());
        let path = asked["path"].as_str().unwrap();
        // As the kubelet does: until it is fine, or the patience is over.
        let fine = async { while once(&To::Tcp(probes), Http::One, get(path)).await.status != 200 {} };
        assert!(tokio::time::timeout(PATIENCE, fine).await.is_ok(), "{path}");
    }
    assert_eq!(once(&To::Tcp(probes), Http::One, get("/metrics")).await.status, 200);
    let socket = folders.dir.path().join("socket/bfb.sock");
    assert_eq!(fs::metadata(&socket).unwrap().permissions().mode() & 0o777, 0o666);
    for (to, path) in [(To::Unix(socket), "/v2/customers/1"), (To::Tcp(listen), "/v2/customers/2")] {
        let got = once(&to, Http::One, get(path)).await;
        assert_eq!((got.status, got.header("server-timing").is_empty()), (200, false), "{}", got.text());
    }
    // As `kubectl exec POD -c bfb -- bfb status` does: the same variables, no flag.
    let mut status = bfb();
    status.arg("status").envs(variables);
    let status = tokio::task::spawn_blocking(move || status.output().unwrap()).await.unwrap();
    assert!(status.status.success(), "{}", String::from_utf8_lossy(&status.stderr));
    assert!(String::from_utf8_lossy(&status.stdout).contains("customer"));

    let told = Command::new("kill").args(["-s", "TERM", &process.0.id().to_string()]).status().unwrap();
    assert!(told.success());
    let ended = tokio::task::spawn_blocking(move || {
        let rest: Vec<_> = log.by_ref().map_while(Result::ok).collect();
        (process.0.wait().unwrap(), rest)
    });
    let (ended, rest) = ended.await.unwrap();
    assert!(ended.success(), "{rest:?}");
}
