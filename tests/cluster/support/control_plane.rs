//! A control plane: etcd, kube-apiserver, and the controllers that make pods of other objects. No
//! node, so no pod ever runs.

use std::ffi::OsString;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use bfb::identity::issue::{Authority, Leaf, Validity};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::Mutex;

use super::api::Api;
use super::port::free;
use super::process::Process;
use super::services::Services;
use super::until;

/// The controllers without which an owner has no pods, or a pod is not admitted.
const CONTROLLERS: [&str; 9] = [
    "deployment-controller",
    "replicaset-controller",
    "replicationcontroller-controller",
    "statefulset-controller",
    "daemonset-controller",
    "job-controller",
    "cronjob-controller",
    "namespace-controller",
    "garbage-collector-controller",
];

/// The token of the administrator.
const ADMIN: &str = "admin-token";
/// The namespace for which the audit log records what admission does to pods.
pub(crate) const AUDITED: &str = "audited";
/// The file of the audit log.
const AUDIT: &str = "audit.log";
/// A node without a kubelet, on which a `DaemonSet` has its pod.
const NODE: &str = "node";

/// The control plane.
pub(crate) struct ControlPlane {
    authority: Authority,
    address: SocketAddr,
    etcd: SocketAddr,
    services: Services,
    processes: Vec<Process>,
    api_server: Mutex<Option<Process>>,
    /// Dropped last: the processes write into it.
    dir: TempDir,
}

impl ControlPlane {
    /// The control plane that most tests share, each in namespaces of its own.
    pub(crate) async fn shared() -> &'static Self {
        static SHARED: OnceLock<ControlPlane> = OnceLock::new();
        // It outlives the test that is the first to need it, and so does its runtime.
        let starting = tokio::task::spawn_blocking(|| {
            SHARED.get_or_init(|| {
                let runtime = Box::leak(Box::new(tokio::runtime::Runtime::new().unwrap()));
                runtime.block_on(Self::start())
            })
        });
        starting.await.expect("a control plane")
    }

    /// A control plane of a test's own.
    pub(crate) async fn start() -> Self {
        // Fails if another test has installed it before.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let dir = tempfile::tempdir().unwrap();
        let authority = Authority::new("kubernetes", Validity::days(2)).unwrap();
        let services = Services::default();
        services.clone().serve(&dir.path().join("services.sock"));
        let address = free();
        let etcd = free();
        let processes = Vec::new();
        let mut plane = Self {
            dir,
            authority,
            address,
            etcd,
            services,
            processes,
            api_server: Mutex::default(),
        };
        plane.write_files();
        plane.processes.push(plane.start_etcd());
        plane.start_api_server().await;
        plane.processes.push(plane.start_controllers());
        let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": NODE}});
        plane.admin().create(&node).await.object();
        // As if a kubelet had reported the node ready: no pod of a `DaemonSet` goes to a node that
        // is not.
        plane.admin().merge(&node, &json!({"spec": {"taints": null}})).await.object();
        plane
    }

    /// A client with all rights.
    pub(crate) fn admin(&self) -> Api {
        self.api(ADMIN)
    }

    /// A client with this token.
    pub(crate) fn api(&self, token: &str) -> Api {
        Api::new(&self.url(), self.authority.ca_pem(), token)
    }

    /// The endpoints behind each Service.
    pub(crate) fn services(&self) -> &Services {
        &self.services
    }

    /// A file with the address of the API server, the token, and the namespace for a program.
    pub(crate) fn kubeconfig(&self, name: &str, token: &str, namespace: &str) -> PathBuf {
        let config = json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "test", "cluster": {"server": self.url(),
                "certificate-authority": self.path("ca.crt")}}],
            "users": [{"name": "test", "user": {"token": token}}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test",
                "namespace": namespace}}],
            "current-context": "test",
        });
        self.write(&format!("{name}.kubeconfig"), &config.to_string())
    }

    /// A namespace with these labels, and the service account of pods that name none.
    pub(crate) async fn namespace(&self, name: &str, labels: &Value) {
        let admin = self.admin();
        let namespace = json!({"apiVersion": "v1", "kind": "Namespace",
            "metadata": {"name": name, "labels": labels}});
        admin.apply(&namespace).await;
        let account = json!({
            "apiVersion": "v1", "kind": "ServiceAccount",
            "metadata": {"name": "default", "namespace": name},
        });
        admin.apply(&account).await;
    }

    /// Ends the API server as a crash would.
    pub(crate) async fn kill_api_server(&self) {
        self.api_server.lock().await.take().expect("an API server runs").kill().await;
    }

    /// Starts the API server, and waits until it is ready.
    pub(crate) async fn start_api_server(&self) {
        let mut api_server = self.api_server.lock().await;
        let process = api_server.insert(self.api_server());
        let admin = self.admin();
        until("the API server is ready", async || {
            assert!(process.runs(), "it ended:\n{}", process.tail());
            let ready = admin.try_ask(reqwest::Method::GET, "/readyz", None).await;
            ready.is_ok_and(|ready| ready.is_done()).then_some(())
        })
        .await;
    }

    /// The records of the audit log so far.
    pub(crate) fn audit(&self) -> Vec<Value> {
        let text = fs::read_to_string(self.path(AUDIT)).unwrap();
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// A folder for files of the test.
    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    fn url(&self) -> String {
        format!("https://{}", self.address)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, text).unwrap();
        path
    }

    fn write_files(&self) {
        let names = Leaf::new("kube-apiserver")
            .dns("localhost")
            .dns("kubernetes.default.svc")
            .ip([127, 0, 0, 1]);
        self.authority
            .issue(&names)
            .unwrap()
            .write(self.dir.path(), self.authority.ca_pem())
            .unwrap();
        // Any key will do for the tokens of service accounts.
        let accounts = self.authority.issue(&Leaf::new("accounts")).unwrap();
        self.write("accounts.crt", &accounts.cert_pem);
        self.write("accounts.key", &accounts.key_pem);
        self.write("tokens.csv", &format!("{ADMIN},admin,1,system:masters\n"));
        self.write("audit.yaml", &audited().to_string());
        let socket = self.path("services.sock");
        let to_services = json!({
            "apiVersion": "apiserver.k8s.io/v1beta1",
            "kind": "EgressSelectorConfiguration",
            "egressSelections": [{
                "name": "cluster",
                "connection": {"proxyProtocol": "HTTPConnect",
                    "transport": {"uds": {"udsName": socket}}},
            }],
        });
        self.write("egress.yaml", &to_services.to_string());
    }

    fn start_etcd(&self) -> Process {
        let clients = format!("http://{}", self.etcd);
        let peers = format!("http://{}", free());
        let args = [
            format!("--data-dir={}", self.path("etcd").display()),
            format!("--listen-client-urls={clients}"),
            format!("--advertise-client-urls={clients}"),
            format!("--listen-peer-urls={peers}"),
            format!("--initial-advertise-peer-urls={peers}"),
            format!("--initial-cluster=default={peers}"),
            // Its data need not survive a power cut.
            "--unsafe-no-fsync".to_owned(),
        ];
        // The shared control plane is never dropped, and etcd preallocates much disk space.
        let folder = self.dir.path();
        Process::start_sweeping("etcd", folder, "etcd", &args, &[], folder)
    }

    fn api_server(&self) -> Process {
        let file = |flag: &str, name: &str| format!("--{flag}={}", self.path(name).display());
        let args = [
            "kube-apiserver".to_owned(),
            format!("--etcd-servers=http://{}", self.etcd),
            format!("--secure-port={}", self.address.port()),
            format!("--bind-address={}", self.address.ip()),
            format!("--advertise-address={}", self.address.ip()),
            "--endpoint-reconciler-type=none".to_owned(),
            "--service-cluster-ip-range=10.96.0.0/16".to_owned(),
            file("tls-cert-file", "tls.crt"),
            file("tls-private-key-file", "tls.key"),
            file("token-auth-file", "tokens.csv"),
            "--authorization-mode=RBAC".to_owned(),
            "--service-account-issuer=https://kubernetes.default.svc".to_owned(),
            file("service-account-key-file", "accounts.crt"),
            file("service-account-signing-key-file", "accounts.key"),
            file("egress-selector-config-file", "egress.yaml"),
            file("audit-policy-file", "audit.yaml"),
            file("audit-log-path", AUDIT),
        ];
        Process::start("kube-apiserver", self.dir.path(), binary(), &args, &[])
    }

    fn start_controllers(&self) -> Process {
        let kubeconfig = self.kubeconfig("controllers", ADMIN, "default");
        let args = [
            "kube-controller-manager".to_owned(),
            format!("--kubeconfig={}", kubeconfig.display()),
            format!("--controllers={}", CONTROLLERS.join(",")),
            "--leader-elect=false".to_owned(),
            format!("--secure-port={}", free().port()),
            format!("--bind-address={}", self.address.ip()),
            // Without this it makes certificates of its own.
            format!("--cert-dir={}", self.path("controllers").display()),
        ];
        Process::start("kube-controller-manager", self.dir.path(), binary(), &args, &[])
    }
}

/// The audit policy: record the requests of service accounts, and the changes by admission to the
/// pods of namespaces that ask for that.
fn audited() -> Value {
    json!({
        "apiVersion": "audit.k8s.io/v1",
        "kind": "Policy",
        "omitStages": ["RequestReceived"],
        "rules": [
            {"level": "Metadata", "userGroups": ["system:serviceaccounts"]},
            {
                "level": "Request",
                "verbs": ["create"],
                "resources": [{"group": "", "resources": ["pods"]}],
                "namespaces": [AUDITED],
            },
            {"level": "None"},
        ],
    })
}

/// The program that contains kube-apiserver and kube-controller-manager.
fn binary() -> OsString {
    std::env::var_os("BFB_TEST_KUBERNETES").expect(
        "`BFB_TEST_KUBERNETES` names no control plane; expected what `tests/cluster/build.sh` \
         prints\n\
         hint: `make test-cluster` builds it and sets the variable",
    )
}
