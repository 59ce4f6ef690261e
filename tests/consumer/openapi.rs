//! `GET /openapi.json` read by public programs: `openapi-spec-validator` and `schemathesis`, from
//! `PyPI`. `make test` installs them into `target/openapi-tools`; where they are missing, these
//! tests print that and end.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::json;

use crate::support::domain::DomainFile;
use crate::support::sidecar::{Setup, Sidecar};
use crate::support::upstream::{Reply, Upstream};

/// The program, if it is installed.
#[allow(clippy::print_stderr, reason = "a test that looks at nothing should say so")]
fn tool(name: &str) -> Option<PathBuf> {
    let tools = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/openapi-tools");
    // The installation writes this file last.
    let is_there = tools.join("installed").is_file();
    if !is_there {
        eprintln!(
            "passed over: `{name}` is not in target/openapi-tools (hint: \
             `sh tests/openapi-tools.sh`)"
        );
    }
    is_there.then(|| tools.join("bin").join(name))
}

async fn run(mut command: Command) -> Output {
    tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
}

fn text(output: &Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

/// A version with a schema whose parts refer to one another, one without, and a part that breaks
/// the schema where `is_right` is false.
async fn sidecar(is_right: bool) -> (Sidecar, Upstream) {
    let upstream = Upstream::plain().await;
    let born = if is_right { json!("1990-01-31") } else { json!(1990) };
    let part = json!({"born": born, "friends": [{"born": "1991-12-01", "friends": []}]});
    upstream.handles("/part", move |_| Reply::json(part.to_string()));
    let domain = DomainFile::of("customer")
        .head("key: '[0-9]{1,18}'")
        .source("part", &upstream, "/part", &[])
        .version("v1", &["path: /v1/customers/{key}", "shape: .part", "schema: customer.json"])
        .version("v2", &["path: /v2/customers/{key}"]);
    // This file leaves `key` out, so that the tools read the pattern that is the default.
    let other = DomainFile::of("account").source("part", &upstream, "/part", &[]);
    let setup = Setup::of(&[&domain, &other]).insecure();
    let schema = json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": "https://example.org/customer.json",
        "$ref": "#/$defs/person",
        "$defs": {
            "day": {"$anchor": "day", "type": "string", "pattern": "^[0-9-]{10}$"},
            "person": {
                "type": "object",
                "required": ["born", "friends"],
                "properties": {
                    "born": {"$ref": "#day"},
                    "friends": {"type": "array", "items": {"$ref": "#/$defs/person"}},
                },
            },
        },
    });
    std::fs::write(setup.dir().join("domains/customer.json"), schema.to_string()).unwrap();
    (setup.start().await, upstream)
}

#[tokio::test]
async fn the_document_is_one_to_openapi_spec_validator() {
    let Some(validator) = tool("openapi-spec-validator") else { return };
    let (sidecar, _upstream) = sidecar(true).await;
    let file = sidecar.dir().join("openapi.json");
    let document = sidecar.get("/openapi.json").await;
    let validate = async |text: &str| {
        std::fs::write(&file, text).unwrap();
        let mut command = Command::new(&validator);
        command.arg(&file);
        run(command).await
    };
    let output = validate(document.text()).await;
    assert!(output.status.success(), "{}\n{}", text(&output), document.text());
    let broken =
        document.text().replace("#/components/schemas/customer.v1/$defs/person", "#/nowhere");
    assert_ne!(broken, document.text());
    assert!(!validate(&broken).await.status.success(), "it looks at references");
}

async fn schemathesis(tool: &Path, sidecar: &Sidecar) -> Output {
    let listen = sidecar.listen();
    let mut command = Command::new(tool);
    // It stores its results in the folder where it runs.
    command.current_dir(sidecar.dir());
    command.args([
        "run",
        &format!("http://{listen}/openapi.json"),
        "--url",
        &format!("http://{listen}"),
    ]);
    command.args(["--phases", "examples,coverage,fuzzing", "--max-examples", "20", "--seed", "1"]);
    command.args([
        "--no-color",
        "--checks",
        "all",
        "--suppress-health-check",
        "all",
        "--request-timeout",
        "60",
        "--generation-database",
        ":memory:",
    ]);
    run(command).await
}

#[tokio::test]
async fn what_is_answered_is_what_the_document_says_to_schemathesis() {
    let Some(tool) = tool("schemathesis") else { return };
    let (sidecar, _upstream) = sidecar(true).await;
    let output = schemathesis(&tool, &sidecar).await;
    let report = text(&output);
    assert!(output.status.success(), "{report}");
}

#[tokio::test]
async fn schemathesis_finds_an_answer_that_is_not_as_its_schema_says() {
    let Some(tool) = tool("schemathesis") else { return };
    let (sidecar, _upstream) = self::sidecar(false).await;
    let output = schemathesis(&tool, &sidecar).await;
    let report = text(&output);
    assert!(
        !output.status.success() && report.contains("1990 is not of type \"string\""),
        "{report}"
    );
}
