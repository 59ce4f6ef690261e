//! The vocabulary of the cluster's tests: a control plane (`control_plane`), its clients (`api`),
//! its way to Services (`services`), the webhook as `k8s/` installs it (`installation`), and
//! another injector (`mesh`).

pub(crate) mod api;
pub(crate) mod control_plane;
pub(crate) mod installation;
pub(crate) mod kustomize;
pub(crate) mod mesh;
pub(crate) mod objects;
#[path = "../../support/port.rs"]
pub(crate) mod port;
pub(crate) mod process;
pub(crate) mod services;
pub(crate) mod stream;

use std::time::Duration;

/// How long a test waits for an event that must come.
const PATIENCE: Duration = Duration::from_mins(1);
/// How often it looks.
const GLANCE: Duration = Duration::from_millis(50);

/// Calls `look` until it returns a value. `what` names the missing event in the panic.
#[track_caller]
pub(crate) fn until<T>(
    what: &str,
    mut look: impl AsyncFnMut() -> Option<T>,
) -> impl Future<Output = T> {
    let place = std::panic::Location::caller();
    async move {
        let looking = async {
            loop {
                if let Some(found) = look().await {
                    return found;
                }
                tokio::time::sleep(GLANCE).await;
            }
        };
        let found = tokio::time::timeout(PATIENCE, looking).await;
        found.unwrap_or_else(|_| panic!("{place}: it never came that {what}"))
    }
}
