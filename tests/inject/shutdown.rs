//! The shutdown of a pod: in whatever order application and sidecar get SIGTERM, no request of the
//! application fails during its shutdown, and the sidecar ends within the pod's grace period.
//!
//! The application is a process that sends requests after its SIGTERM, each over a new connection,
//! beside workers that keep their connections. A native sidecar gets SIGTERM once the application
//! has ended; both get it at once if a node goes down, or if a runtime stops the pod as a whole.

use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::pod::{Pod, terminate};
use crate::support::client::{Connection, Consumer, Endpoint, HttpVersion, SendError, get};
use crate::support::domain::{DomainFile, mutual};
use crate::support::pki::Pki;
use crate::support::upstream::{Reply, Upstream};

/// The number of requests that the application sends after SIGTERM.
const LAST_QUESTIONS: usize = 12;

/// Sends requests until SIGTERM, then `$1` more. A request without a response ends it with 1.
const APPLICATION: &str = r#"
ending=
trap 'ending=1' TERM
ask() { "$BFB" get customer 42 >/dev/null || exit 1; }
ask
echo up
while [ -z "$ending" ]; do ask; done
asked=0
while [ "$asked" -lt "$1" ]; do ask; asked=$((asked + 1)); done
echo done
"#;

struct World {
    _pki: Pki,
    upstream: Upstream,
    pod: Pod,
}

impl World {
    async fn of(grace: u64) -> Self {
        let pki = Pki::new();
        let upstream = mutual(&pki).await;
        upstream.handles("/profile", |_| Reply::json(r#"{"id":42}"#));
        let domain =
            DomainFile::of("customer").source("profile", &upstream, "/profile?key={key}", &[]);
        let spec = json!({
            "terminationGracePeriodSeconds": grace,
            "containers": [{"name": "app", "image": "shop/app:1"}],
        });
        // Without a cache, each request reaches the source.
        let pod = Pod::start(&pki, &domain, &[("no-cache", "true")], &spec).await;
        Self { _pki: pki, upstream, pod }
    }

    /// Starts the application, and waits for the response to its first request.
    async fn application(&self) -> Application {
        let mut command = Command::new("sh");
        let variables = self.pod.exec();
        command
            .env_clear()
            .envs(variables.get_envs().filter_map(|(name, value)| Some((name, value?))));
        command
            .env("BFB", env!("CARGO_BIN_EXE_bfb"))
            .env("PATH", std::env::var_os("PATH").unwrap());
        command.args(["-c", APPLICATION, "application", &LAST_QUESTIONS.to_string()]);
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let application = Application(Some(child));
        self.asked(1).await;
        application
    }

    async fn asked(&self, more: usize) {
        let asked = self.upstream.received().len();
        self.upstream.requests(asked + more).await;
    }
}

/// A process; killed when dropped.
struct Application(Option<Child>);

impl Drop for Application {
    fn drop(&mut self) {
        if let Some(mut child) = self.0.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Application {
    fn terminate(&self) {
        terminate(self.0.as_ref().unwrap().id());
    }

    /// Waits for its end, after the response to its last request.
    async fn end(mut self) {
        let child = self.0.take().unwrap();
        let output =
            tokio::task::spawn_blocking(move || child.wait_with_output().unwrap()).await.unwrap();
        let err = String::from_utf8_lossy(&output.stderr);
        assert_eq!(String::from_utf8_lossy(&output.stdout), "up\ndone\n", "{err}");
        assert!(output.status.success(), "{err}");
    }
}

/// Workers of the application, which keep their connections and send requests on them until they
/// are stopped.
struct Workers {
    stop: Arc<AtomicBool>,
    tasks: JoinSet<usize>,
}

impl Workers {
    fn of(pod: &Pod) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let mut tasks = JoinSet::new();
        for http in [HttpVersion::Http1, HttpVersion::Http1, HttpVersion::Http2, HttpVersion::Http2]
        {
            let mut consumer = Consumer::new(Endpoint::Tcp(pod.listen), http);
            let stop = stop.clone();
            tasks.spawn(async move {
                let mut answered = 0;
                while !stop.load(Ordering::SeqCst) {
                    let got = consumer.get("/v2/customers/42").await.unwrap();
                    assert_eq!(got.status, 200, "{got:?}");
                    answered += 1;
                    tokio::time::sleep(Duration::from_millis(2)).await;
                }
                answered
            });
        }
        Self { stop, tasks }
    }

    /// Stops the workers, none of whose requests may have failed.
    async fn end(mut self) {
        self.stop.store(true, Ordering::SeqCst);
        while let Some(answered) = self.tasks.join_next().await {
            assert!(answered.unwrap() > 0);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn told_after_the_application_as_native_sidecars_are_it_has_answered_everything() {
    let world = World::of(30).await;
    let application = world.application().await;
    let workers = Workers::of(&world.pod);
    world.asked(20).await;
    application.terminate();
    application.end().await;
    workers.end().await;
    world.pod.terminate();
    let (ended, log) = world.pod.end().await;
    assert!(ended.success() && log.contains("how=\"quiet\""), "{log}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn told_at_the_same_time_it_answers_until_the_application_has_asked_its_last() {
    let world = World::of(30).await;
    let application = world.application().await;
    let workers = Workers::of(&world.pod);
    world.asked(20).await;
    world.pod.terminate();
    application.terminate();
    application.end().await;
    workers.end().await;
    let (ended, log) = world.pod.end().await;
    assert!(ended.success() && log.contains("how=\"quiet\""), "{log}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn told_before_the_application_it_answers_until_that_has_asked_its_last() {
    let world = World::of(30).await;
    let application = world.application().await;
    let workers = Workers::of(&world.pod);
    world.pod.terminate();
    world.asked(20).await;
    application.terminate();
    application.end().await;
    workers.end().await;
    let (ended, log) = world.pod.end().await;
    assert!(ended.success() && log.contains("how=\"quiet\""), "{log}");
}

#[tokio::test]
async fn a_question_that_no_source_answers_holds_it_no_longer_than_the_grace_of_the_pod() {
    let world = World::of(6).await;
    let drain =
        world.pod.container["env"].as_array().unwrap().iter().find(|it| it["name"] == "BFB_DRAIN");
    assert_eq!(
        drain.map(|it| &it["value"]),
        Some(&Value::from("1s")),
        "five seconds are left of the grace"
    );
    world.upstream.handles("/profile", |_| Reply::never());
    let mut kept =
        Connection::open(&Endpoint::Tcp(world.pod.listen), HttpVersion::Http1).await.unwrap();
    let asked = world.upstream.received().len();
    let (answer, ()) = tokio::join!(kept.send(get("/v2/customers/42")), async {
        world.upstream.requests(asked + 1).await;
        world.pod.terminate();
    });
    assert!(matches!(answer, Err(SendError::Failed(_))), "{answer:?}");
    let (ended, log) = world.pod.end().await;
    assert!(ended.success() && log.contains("the drain took too long"), "{log}");
}
