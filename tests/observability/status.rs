//! `GET /status` and `bfb status`: lease, log and tiers, for programs and for people.

use serde_json::{Value, json};

use super::{PATH, single_sidecar};
use crate::cache::{counting, write};
use crate::commands::run;
use crate::fleet::fleet;
use crate::support::sidecar::Sidecar;

async fn status_text(sidecar: &Sidecar) -> String {
    run(&["status", "--admin", &sidecar.admin_address().to_string()]).await.with_code(0).out
}

#[tokio::test]
async fn the_lease_the_log_and_the_tiers_are_told() {
    let (_redis, _upstream, members) = fleet(1, &[]).await;
    let sidecar = &members[0];
    for _ in 0..4 {
        sidecar.get(PATH).await.dataset();
    }
    let request = json!({"domain": "customer", "keys": ["43"], "wait": "fleet"});
    let token = sidecar.send_admin(write("/invalidate", &request)).await.json()["token"]
        .as_str()
        .unwrap()
        .to_owned();
    let status = sidecar.admin("/status").await.json();
    let domain = &status["fleet"]["domains"][0];
    assert_eq!(
        (&domain["lease_held"], &domain["seq"], &domain["lag"]),
        (&json!(true), &json!(1), &json!(0))
    );
    assert_eq!(format!("{}-1", domain["epoch"].as_str().unwrap()), token);
    let cache = &status["cache"];
    assert_eq!(
        (&cache["reads"], &cache["misses"], &cache["hit_percent"]),
        (&json!(4), &json!(1), &json!(75.0))
    );
    let memory =
        cache["tiers"].as_array().unwrap().iter().find(|tier| tier["tier"] == "memory").unwrap();
    assert_eq!(
        (&memory["hits"], &memory["percent"], &memory["capacity"]),
        (&json!(3), &json!(75.0), &json!(64 << 20))
    );
    assert_eq!(memory["entries"], 1, "{memory}");

    let status_text = status_text(sidecar).await;
    for words in [
        "fleet over Redis, connected",
        "held, ",
        " ms left",
        "cache 75.0 % hits of 4 reads",
        "1 misses",
    ] {
        assert!(status_text.contains(words), "no `{words}`\n{status_text}");
    }
    let epoch = &domain["epoch"].as_str().unwrap()[..12];
    let row: Vec<&str> =
        status_text.lines().find(|line| line.contains(epoch)).unwrap().split_whitespace().collect();
    assert_eq!((row[0], &row[row.len() - 3..]), ("customer", &[epoch, "1", "0"][..]));
}

#[tokio::test]
async fn a_sidecar_alone_without_a_read_has_no_rate() {
    let (sidecar, upstream) = single_sidecar("{ttl: 60s}").await;
    counting(&upstream, "/42");
    assert_eq!(sidecar.admin("/status").await.json()["cache"]["hit_percent"], Value::Null);
    let status_text = status_text(&sidecar).await;
    assert!(
        status_text.contains("fleet of one") && status_text.contains("cache - hits of 0 reads"),
        "{status_text}"
    );
}

#[tokio::test]
async fn the_text_fits_a_terminal_of_80_columns_where_names_do() {
    let (_redis, _upstream, members) = fleet(1, &[]).await;
    members[0].get(PATH).await.dataset();
    let status_text = status_text(&members[0]).await;
    // The line with the file's path is as long as the test's temporary folder.
    let wide = status_text
        .lines()
        .filter(|line| !line.contains("plan"))
        .find(|line| line.chars().count() > 80);
    assert_eq!(wide, None, "{status_text}");
    assert!(!status_text.contains('\u{1b}'), "no colour where there is no terminal");
    assert!(status_text.lines().all(|line| line == line.trim_end()), "{status_text}");
}

#[tokio::test]
async fn a_fleet_of_one_shows_no_redis_and_a_fleet_its_tiers_in_one_order() {
    let tiers = async |sidecar: &Sidecar| {
        let status = sidecar.admin("/status").await.json();
        let tiers = status["cache"]["tiers"].as_array().unwrap().clone();
        let names = tiers.iter().map(|tier| tier["tier"].as_str().unwrap().to_owned());
        names.collect::<Vec<_>>()
    };
    let (sidecar, upstream) = single_sidecar("{ttl: 60s}").await;
    counting(&upstream, "/42");
    sidecar.get(PATH).await.dataset();
    assert_eq!(tiers(&sidecar).await, ["memory"]);
    assert!(!status_text(&sidecar).await.contains("redis"));
    let dataset = sidecar.admin("/datasets/customer/42").await.json();
    assert!(dataset["memory"].is_object() && dataset.get("redis").is_none(), "{dataset}");
    let metrics = sidecar.admin("/metrics").await;
    assert!(!metrics.text().contains("tier=\"redis\""), "{}", metrics.text());

    // The order of hash tables is random in each process: one of several would differ.
    let (_redis, _upstream, members) = fleet(3, &[]).await;
    for member in &members {
        assert_eq!(tiers(member).await, ["memory", "redis"]);
        let dataset = member.admin("/datasets/customer/42").await.json();
        assert!(dataset.get("redis").is_some_and(Value::is_null), "{dataset}");
    }
}
