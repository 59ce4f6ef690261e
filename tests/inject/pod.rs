//! A pod on this machine: a process with the arguments and variables of the injected container, and
//! with folders in the place of its volumes.

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
    /// The injected container.
    pub(super) container: Value,
    pub(super) listen: SocketAddr,
    pub(super) probes: SocketAddr,
    folders: Folders,
    process: Process,
    log: Option<Lines<BufReader<ChildStderr>>>,
    /// The sidecar's log until it was up.
    pub(super) startup_log: String,
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
    /// Injects into a pod with these annotations and this spec, and starts the sidecar.
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
        let listen = free();
        let probes = free();
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
        let (log, startup_log) = tokio::task::spawn_blocking(move || {
            let lines: Vec<String> = log
                .by_ref()
                .map_while(Result::ok)
                .take_while(|it| !it.contains("probes and metrics"))
                .collect();
            (log, lines.join("\n"))
        })
        .await
        .unwrap();
        Self { container, listen, probes, folders, process, log: Some(log), startup_log }
    }

    /// A command in the sidecar's container, as `kubectl exec` runs it: with the same variables,
    /// and without flags.
    pub(super) fn exec(&self) -> Command {
        let mut command = bfb();
        command.envs(self.folders.variables(&self.container));
        command
    }

    /// The socket that all containers mount.
    pub(super) fn socket(&self) -> PathBuf {
        self.folders.dir.path().join("socket/bfb.sock")
    }

    /// Sends the sidecar SIGTERM.
    pub(super) fn terminate(&self) {
        terminate(self.process.0.id());
    }

    /// Waits for the end of the sidecar. Returns its exit status and the rest of its log.
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
    /// Replaces the paths and addresses of the pod by those of this machine.
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
        let name_and_value = |variable: &Value| {
            let value =
                match variable.pointer("/valueFrom/fieldRef/fieldPath").and_then(Value::as_str) {
                    Some("metadata.name") => "web-7c9f-x2k".to_owned(),
                    Some("metadata.namespace") => "shop".to_owned(),
                    Some(other) => panic!("{other}"),
                    None => self.place(variable["value"].as_str().unwrap()).replace("$$", "$"),
                };
            (variable["name"].as_str().unwrap().to_owned(), value)
        };
        container["env"].as_array().unwrap().iter().map(name_and_value).collect()
    }
}
