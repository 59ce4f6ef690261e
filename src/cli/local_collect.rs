//! A dataset without a sidecar: `bfb get --domain FILE` runs the very same consumer's side in this
//! process, once.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use http::Request;
use prometheus_client::registry::Registry;
use tokio::sync::watch;

use super::args::UpstreamArgs;
use super::client::DatasetResponse;
use super::{check, exit, out, serve};
use crate::bus::{self, Bus};
use crate::cache::CacheConfig;
use crate::domain::encode_key;
use crate::http::AllowedHosts;
use crate::serve::{Consumers, ConsumersConfig, KeyLogPolicy, Reporter, Routes, ServeMetrics};
use crate::sidecar::{self, DomainCaches, SidecarStartError};
use crate::sources::SourcesConfig;

/// What is wanted.
pub(super) struct DatasetRequest<'a> {
    pub(super) domain: &'a str,
    pub(super) key: &'a str,
    pub(super) version: Option<&'a str>,
}

/// Collects and renders it, or says why not.
pub(super) async fn collect(
    file: PathBuf,
    upstreams: &UpstreamArgs,
    dataset: &DatasetRequest<'_>,
) -> Result<DatasetResponse, ExitCode> {
    let loaded = sidecar::read_domains(&[file], upstreams.domain_file_options());
    if !loaded.problems().is_empty() {
        check::report_problems(loaded.problems());
        return Err(exit::wrong_input());
    }
    let target = dataset_path(&loaded, dataset).map_err(|error| {
        out::error(error);
        exit::wrong_input()
    })?;
    let mut registry = Registry::default();
    let identity = upstreams.identity().build(&mut registry).map_err(refuse)?;
    let sources = SourcesConfig { recording: upstreams.recording() };
    let sources = sources.build(&identity, &mut registry).map_err(refuse)?;
    let cache = CacheConfig::none().build(None, &mut registry).map_err(refuse)?;
    let caches = DomainCaches::new(
        sources,
        cache.context,
        Bus::standalone([], bus::BusMetrics::default()),
        &mut registry,
    )
    .update(loaded.domains());
    let metrics = ServeMetrics::register(&mut registry);
    let routes = caches.and_then(|caches| Routes::new(&caches, &metrics));
    let routes = routes.map_err(|error| refuse(SidecarStartError::Shape(error.message)))?;
    let settings = ConsumersConfig {
        hosts: AllowedHosts::default(),
        explain: true,
        honour_cache_control: true,
        requests_max: 1,
    };
    let routes = watch::Sender::new(Arc::new(routes));
    let consumers = Consumers::new(
        routes.subscribe(),
        settings,
        metrics,
        Reporter::new(KeyLogPolicy::default(), None),
    );
    let request = Request::get(target).body(()).map_err(|_| exit::wrong_input())?;
    let (parts, body) = consumers.answer(request, false).await.into_parts();
    Ok(DatasetResponse { status: parts.status, headers: parts.headers, body })
}

/// Says why it cannot begin.
fn refuse(error: impl Into<SidecarStartError>) -> ExitCode {
    serve::report_start_error(&error.into())
}

fn dataset_path(
    loaded: &crate::domain::Loaded,
    dataset: &DatasetRequest<'_>,
) -> Result<String, String> {
    let name = dataset.domain;
    let key = dataset.key;
    let domain = loaded
        .domains()
        .get(name)
        .ok_or_else(|| format!("the file describes no domain `{name}`"))?;
    let version = match dataset.version {
        Some(version) => domain.versions.iter().find(|v| v.name.as_ref() == version),
        None => domain.versions.iter().rfind(|v| v.deprecated.is_none()).or(domain.versions.last()),
    };
    let version = version.ok_or_else(|| {
        format!("domain `{name}` has no version `{}`", dataset.version.unwrap_or(""))
    })?;
    Ok(version.path.text.replace("{key}", &encode_key(key).to_string()))
}
