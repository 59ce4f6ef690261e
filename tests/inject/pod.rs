//! A pod on this machine: the injected container's arguments and variables, with the pod's folders
//! and fields put in their places as the kubelet would, in a real process.

use std::fs;
use std::io::{BufRead as _, BufReader, Lines};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};

use serde_json::{Value, json};
use tempfile::TempDir;

use super::{documents, injected};
use crate::support::domain::DomainFile;
use crate::support::pki::Pki;
use crate::support::redis::free;
use crate::support::sidecar::bfb;

/// A pod whose sidecar runs; killed when dropped.
pub(super) struct Pod {
    /// What was injected.
    pub(super) container: Value,
    pub(super) listen: SocketAddr,
    pub(super) probes: SocketAddr,
    folders: Folders,
    process: Process,
    log: Option<Lines<BufReader<ChildStderr>>>,
    /// What it said until it was up.
    pub(super) said: String,
}

/// The folders of a pod, on this machine.
struct Folders {
    dir: TempDir,
    identity: PathBuf,
}

struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Pod {
    /// Injects into a pod with these annotations and this spec, and starts what was injected.
    pub(super) async fn start(
        pki: &Pki,
        domain: &DomainFile,
        annotations: &[(&str, &str)],
        spec: &Value,
    ) -> Self {
        let folders = Folders { dir: tempfile::tempdir().unwrap(), identity: pki.dir().to_owned() };
        for folder in ["domains", "admin", "socket"] {
            fs::create_dir(folders.dir.path().join(folder)).unwrap();
        }
        fs::write(folders.dir.path().join("domains/customer.yaml"), domain.text()).unwrap();
        let (listen, probes) = (free(), free());
        let mut all = json!({
            "bfb.dev/inject": "customer",
            "bfb.dev/listen": format!("127.0.0.1:{}", listen.port()),
            "bfb.dev/probes": format!("0.0.0.0:{}", probes.port()),
        });
        for (name, value) in annotations {
            all[format!("bfb.dev/{name}")] = json!(value);
        }
        let pod = json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web", "annotations": all},
            "spec": spec,
        });
        let after = documents(&injected(&[], &pod.to_string())).remove(0);
        assert_eq!(
            after["spec"]["terminationGracePeriodSeconds"],
            spec["terminationGracePeriodSeconds"]
        );
        let container = after["spec"]["initContainers"][0].clone();

        let mut command: Command = bfb();
        let args = container["args"]
            .as_array()
            .unwrap()
            .iter()
            .map(|arg| folders.place(arg.as_str().unwrap()));
        command.args(args).envs(folders.variables(&container)).stderr(Stdio::piped());
        let mut process = Process(command.spawn().unwrap());
        let mut log = BufReader::new(process.0.stderr.take().unwrap()).lines();
        let (log, said) = tokio::task::spawn_blocking(move || {
            let said: Vec<String> = log
                .by_ref()
                .map_while(Result::ok)
                .take_while(|it| !it.contains("probes and metrics"))
                .collect();
            (log, said.join("\n"))
        })
        .await
        .unwrap();
        Self { container, listen, probes, folders, process, log: Some(log), said }
    }

    /// A command in the sidecar's container, as `kubectl exec` runs it: the same variables, no
    /// flag.
    pub(super) fn exec(&self) -> Command {
        let mut command = bfb();
        command.envs(self.folders.variables(&self.container));
        command
    }

    /// The socket that all containers have.
    pub(super) fn socket(&self) -> PathBuf {
        self.folders.dir.path().join("socket/bfb.sock")
    }

    /// Tells the sidecar to end.
    pub(super) fn terminate(&self) {
        terminate(self.process.0.id());
    }

    /// Waits for its end: how it ended, and what else it said.
    pub(super) async fn end(mut self) -> (ExitStatus, String) {
        let log = self.log.take().unwrap();
        let ended = tokio::task::spawn_blocking(move || {
            let rest: Vec<_> = log.map_while(Result::ok).collect();
            (self.process.0.wait().unwrap(), rest.join("\n"))
        });
        ended.await.unwrap()
    }
}

/// Sends a process SIGTERM.
pub(super) fn terminate(pid: u32) {
    assert!(
        Command::new("kill").args(["-s", "TERM", &pid.to_string()]).status().unwrap().success()
    );
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
            let value =
                match variable.pointer("/valueFrom/fieldRef/fieldPath").and_then(Value::as_str) {
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
