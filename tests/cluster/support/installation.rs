//! The webhook as `k8s/` installs it: its manifests applied, and its replicas run here with their
//! arguments, as the service account of those manifests and with no other right.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::PathBuf;

use serde_json::{Value, json};

use super::api::{Api, text};
use super::control_plane::ControlPlane;
use super::kustomize::{self, Overlay};
use super::objects::{ASKS, annotations, is_injected, pod};
use super::port::free;
use super::process::Process;
use super::until;

/// The names in the manifests.
const NAMESPACE: &str = "bfb-system";
const CONFIGURATION: &str = "bfb";
const ACCOUNT: &str = "bfb-webhook";
/// The folder in which a pod has a certificate that cert-manager made.
const IDENTITY: &str = "/etc/bfb/identity";
/// The label by which the tests that share a control plane keep out of each other's namespaces.
const TEST: &str = "test";

/// Certificates that live for seconds, so that a test sees them replaced.
pub(crate) const SHORT_LIVED: &str = "--certificate-lifetime=9s";
/// A short lease, so that a silent leader is replaced soon.
pub(crate) const SHORT_LEASE: &str = "--leader-lease=2s";
/// The watchdog checks twice a second.
pub(crate) const WATCHFUL: &str = "--watchdog-every=500ms";

/// The webhook in a cluster.
pub(crate) struct Installation<'p> {
    plane: &'p ControlPlane,
    /// The test that it is for; `None` where it is installed under the names of the manifests.
    test: Option<String>,
    /// The namespace of the webhook.
    pub(crate) namespace: String,
    /// Its configuration's name.
    pub(crate) configuration: String,
    args: Vec<String>,
    env: BTreeMap<String, String>,
    token: String,
    service: String,
    replicas: BTreeMap<String, (Process, SocketAddr)>,
}

impl<'p> Installation<'p> {
    /// Installs it under the names of the manifests: for a control plane of a test's own.
    pub(crate) async fn as_it_is(plane: &'p ControlPlane, overlay: Overlay) -> Self {
        Self::install(plane, None, overlay).await
    }

    /// Installs it under names of the test's, for the namespaces that [`Self::namespace`] makes.
    pub(crate) async fn of(plane: &'p ControlPlane, test: &str, overlay: Overlay) -> Self {
        Self::install(plane, Some(test), overlay).await
    }

    async fn install(plane: &'p ControlPlane, test: Option<&str>, overlay: Overlay) -> Self {
        let (namespace, configuration) = match test {
            Some(test) => (format!("{NAMESPACE}-{test}"), format!("{CONFIGURATION}-{test}")),
            None => (NAMESPACE.to_owned(), CONFIGURATION.to_owned()),
        };
        let mut installation = Self {
            plane,
            test: test.map(str::to_owned),
            namespace,
            configuration,
            args: Vec::new(),
            env: BTreeMap::new(),
            token: String::new(),
            service: String::new(),
            replicas: BTreeMap::new(),
        };
        let admin = plane.admin();
        for object in kustomize::objects(overlay) {
            let object = admin.apply(&installation.renamed(object)).await;
            installation.learn(&object);
        }
        let accounts = format!(
            "/api/v1/namespaces/{}/serviceaccounts/{ACCOUNT}/token",
            installation.namespace
        );
        let token_request =
            json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}});
        installation.token =
            text(&admin.post(&accounts, &token_request).await.object(), "/status/token");
        installation
    }

    /// The object under the names of this test.
    fn renamed(&self, mut object: Value) -> Value {
        let Some(test) = &self.test else { return object };
        replace(&mut object, NAMESPACE, &self.namespace);
        match text(&object, "/kind").as_str() {
            "MutatingWebhookConfiguration" => {
                object["metadata"]["name"] = json!(self.configuration);
                for webhook in object["webhooks"].as_array_mut().unwrap() {
                    let selected =
                        webhook.pointer_mut("/namespaceSelector/matchExpressions").unwrap();
                    let requirement = json!({"key": TEST, "operator": "In", "values": [test]});
                    selected.as_array_mut().unwrap().push(requirement);
                }
            }
            "ClusterRole" | "ClusterRoleBinding" => {
                let name = format!("{}-{test}", text(&object, "/metadata/name"));
                object["metadata"]["name"] = json!(name);
                if let Some(role) = object.pointer_mut("/roleRef/name") {
                    *role = json!(name);
                }
                replace(&mut object, CONFIGURATION, &self.configuration);
            }
            _ => {}
        }
        object
    }

    /// Takes the arguments of the replicas from the Deployment, and their address from the Service.
    fn learn(&mut self, object: &Value) {
        match text(object, "/kind").as_str() {
            "Service" => self.service = format!("{}:443", text(object, "/spec/clusterIP")),
            "Deployment" => {
                let container = &object["spec"]["template"]["spec"]["containers"][0];
                let mut args: Value = container["args"].clone();
                replace(&mut args, CONFIGURATION, &self.configuration);
                replace(&mut args, IDENTITY, self.identity().to_str().unwrap());
                self.args = serde_json::from_value(args).unwrap();
                let variables = container["env"].as_array().unwrap().iter();
                let plain = variables.filter(|variable| variable["value"].is_string());
                self.env = plain.map(|it| (text(it, "/name"), text(it, "/value"))).collect();
            }
            _ => {}
        }
    }

    /// A namespace whose pods are sent to this webhook; with `restricted` enforced, and more
    /// labels.
    pub(crate) async fn namespace(&self, name: &str, labels: &Value) {
        let mut all = json!({"pod-security.kubernetes.io/enforce": "restricted"});
        let all_labels = all.as_object_mut().unwrap();
        all_labels.extend(labels.as_object().unwrap().clone());
        if let Some(test) = &self.test {
            all_labels.insert(TEST.to_owned(), json!(test));
        }
        self.plane.namespace(name, &all).await;
    }

    /// The folder of the certificate that cert-manager would make.
    pub(crate) fn identity(&self) -> PathBuf {
        self.plane.dir().join(format!("{}-identity", self.configuration))
    }

    /// Starts a replica with more arguments, and waits until it is ready.
    pub(crate) async fn start(&mut self, replica: &str, args: &[&str]) {
        let address = free();
        let file = format!("{}-{replica}", self.configuration);
        let kubeconfig = self.plane.kubeconfig(&file, &self.token, &self.namespace);
        let mut all = self.args.clone();
        all.push(format!("--listen={address}"));
        all.push(format!("--kubeconfig={}", kubeconfig.display()));
        all.extend(args.iter().map(|&arg| arg.to_owned()));
        let mut env: Vec<_> =
            self.env.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        env.extend([("POD_NAME", replica), ("POD_NAMESPACE", &self.namespace)]);
        let process =
            Process::start(&file, self.plane.dir(), env!("CARGO_BIN_EXE_bfb"), &all, &env);
        self.replicas.insert(replica.to_owned(), (process, address));
        self.ready(replica).await;
        self.route();
    }

    /// Waits until a replica reports that it is ready.
    async fn ready(&mut self, replica: &str) {
        let (process, address) = self.replicas.get_mut(replica).expect("a replica");
        let what = format!("webhook {replica} is ready");
        until(&what, async || {
            assert!(process.runs(), "it ended:\n{}", process.tail());
            is_ready(*address).await.then_some(())
        })
        .await;
    }

    /// Makes the running replicas the endpoints of the Service.
    fn route(&self) {
        let behind = self.replicas.values().map(|(_, address)| *address).collect();
        self.plane.services().set(&self.service, behind);
    }

    /// Ends the API server's connections to the webhook: the next one begins with a handshake.
    pub(crate) async fn cut(&self) {
        self.plane.services().cut(&self.service).await;
    }

    /// Waits until pods of `namespace` that ask are injected: the API server trusts the authority.
    pub(crate) async fn serves(&self, namespace: &str) {
        let admin = self.admin();
        let probe = pod(namespace, "probe", &annotations(ASKS));
        until("a pod comes out injected", async || {
            let answer = admin.rehearse(&probe).await.ok()?;
            (answer.is_done() && is_injected(&answer.body)).then_some(())
        })
        .await;
    }

    /// A replica's process.
    pub(crate) fn replica(&self, name: &str) -> &Process {
        &self.replicas[name].0
    }

    /// A metric of a replica, summed over the samples that hold `labels`.
    pub(crate) async fn metric(&self, replica: &str, name: &str, labels: &str) -> Option<f64> {
        let (_, address) = self.replicas[replica];
        let answer = unverified().get(format!("https://{address}/metrics")).send().await.ok()?;
        let text = answer.text().await.ok()?;
        let of_name =
            |line: &&str| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' ']));
        let lines = text.lines().filter(of_name).filter(|line| line.contains(labels));
        lines
            .filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok())
            .reduce(|sum, value| sum + value)
    }

    /// Ends a replica as a crash would. The Service removes it at once; in a cluster that takes as
    /// long as a probe does.
    pub(crate) async fn kill(&mut self, replica: &str) {
        let (process, _) = self.replicas.remove(replica).expect("a replica");
        self.route();
        process.kill().await;
    }

    /// Ends a replica as a kubelet does; its exit code. The Service sends it connections until a
    /// probe has seen that it is no longer ready.
    pub(crate) async fn terminate(&mut self, replica: &str) -> i32 {
        let (mut process, address) = self.replicas.remove(replica).expect("a replica");
        process.signal("TERM");
        until("it is no longer ready", async || (!is_ready(address).await).then_some(())).await;
        self.route();
        process.ended().await
    }

    /// The webhook's configuration in its present state.
    pub(crate) async fn configuration(&self) -> Value {
        self.admin().get(&self.configuration_path()).await.object()
    }

    /// Changes the configuration, as an operator might by mistake.
    pub(crate) async fn change_configuration(&self, change: &Value) {
        self.admin().merge_at(&self.configuration_path(), change).await.object();
    }

    fn configuration_path(&self) -> String {
        format!(
            "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/{}",
            self.configuration
        )
    }

    /// The authorities that the API server trusts, the same for every webhook of its configuration.
    pub(crate) async fn bundle(&self) -> String {
        let configuration = self.configuration().await;
        let webhooks = configuration["webhooks"].as_array().unwrap();
        let bundles: BTreeSet<_> =
            webhooks.iter().map(|it| text(it, "/clientConfig/caBundle")).collect();
        bundles.into_iter().collect::<Vec<_>>().join("|")
    }

    /// The present certificate that the replicas share.
    pub(crate) async fn secret(&self) -> Option<Value> {
        self.found(&self.secret_path()).await
    }

    /// Deletes it, as an operator might by mistake.
    pub(crate) async fn delete_secret(&self) {
        self.admin().delete_at(&self.secret_path()).await.object();
    }

    fn secret_path(&self) -> String {
        format!("/api/v1/namespaces/{}/secrets/{ACCOUNT}", self.namespace)
    }

    /// The replica that leads; `None` if there is no leader.
    pub(crate) async fn leader(&self) -> Option<String> {
        let path =
            format!("/apis/coordination.k8s.io/v1/namespaces/{}/leases/{ACCOUNT}", self.namespace);
        let leader = text(&self.found(&path).await?, "/spec/holderIdentity");
        (!leader.is_empty()).then_some(leader)
    }

    async fn found(&self, path: &str) -> Option<Value> {
        let answer = self.admin().get(path).await;
        (answer.status != 404).then(|| answer.object())
    }

    /// The program that contains kube-apiserver and kube-controller-manager.
    pub(crate) fn admin(&self) -> Api {
        self.plane.admin()
    }

    /// A client with the webhook's own rights.
    pub(crate) fn account(&self) -> Api {
        self.plane.api(&self.token)
    }
}

/// The rights that the manifests grant: each verb on each resource.
pub(crate) fn granted(overlay: Overlay) -> BTreeSet<(String, String)> {
    let texts = |rule: &Value, key: &str| {
        let list = rule[key].as_array().cloned().unwrap_or_default();
        list.into_iter().filter_map(|it| it.as_str().map(str::to_owned)).collect::<Vec<_>>()
    };
    let rules = kustomize::objects(overlay)
        .into_iter()
        .flat_map(|object| object["rules"].as_array().cloned().unwrap_or_default());
    let acts = rules.flat_map(|rule| {
        let resources = texts(&rule, "resources");
        let verbs = texts(&rule, "verbs").into_iter();
        verbs.flat_map(move |verb| {
            resources.clone().into_iter().map(move |resource| (verb.clone(), resource))
        })
    });
    acts.collect()
}

/// Replaces every text that is `from`, wherever it stands.
fn replace(value: &mut Value, from: &str, to: &str) {
    match value {
        Value::String(text) if text == from => to.clone_into(text),
        Value::Array(list) => list.iter_mut().for_each(|item| replace(item, from, to)),
        Value::Object(members) => members.values_mut().for_each(|member| replace(member, from, to)),
        _ => {}
    }
}

async fn is_ready(address: SocketAddr) -> bool {
    let ready = unverified().get(format!("https://{address}/readyz")).send().await;
    ready.is_ok_and(|ready| ready.status().is_success())
}

/// A kubelet checks no certificate when it probes.
fn unverified() -> reqwest::Client {
    reqwest::Client::builder().tls_danger_accept_invalid_certs(true).no_proxy().build().unwrap()
}
