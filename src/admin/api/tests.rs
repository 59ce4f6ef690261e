use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::*;

/// Reads what a sidecar writes, and writes the same again.
fn assert_unchanged<T: Serialize + DeserializeOwned>(json: &str) {
    let read: T = serde_json::from_str(json).expect("the type reads it");
    assert_eq!(serde_json::to_string(&read).expect("JSON"), json);
}

const STATUS: &str = concat!(
    r#"{"cache":{"collapsed":1,"evicted":0,"fenced":2,"hit_percent":50.0,"misses":3,"reads":6,"#,
    r#""stale_served":0,"tiers":[{"bytes":10,"capacity":99,"entries":1,"hits":3,"percent":50.0,"#,
    r#""tier":"memory"},{"hits":0,"percent":null,"tier":"redis"}]},"#,
    r#""domains":[{"file":"c.yaml","name":"c","not_kept":[{"datasets":1,"last_seconds_ago":2,"#,
    r#""reason":"no-tags","since_seconds_ago":3}],"plan":"p","#,
    r#""sources":[{"mutual":"no","name":"s","#,
    r#""origin":"https://s","server":"x","state":{"breaker":"open","failed_in_a_row":5,"#,
    r#""in_flight":0,"last_failure":{"reason":"timeout","seconds_ago":1}}}],"#,
    r#""versions":[{"deprecated":null,"name":"v1","path":"/c/v1/{key}","sunset":null}]}],"#,
    r#""fleet":{"alone":false,"connected":true,"domains":[{"applied":null,"domain":"c","#,
    r#""epoch":null,"lag":0,"lease_held":true,"lease_left_ms":900,"member":"m","#,
    r#""newer_protocol":null,"seq":null}],"trouble":null},"#,
    r#""identity":{"generation":1,"names":"n","not_after":"2027-01-01T00:00:00Z"},"#,
    r#""in_flight":0,"log":{"level":"info","seconds_left":3},"#,
    r#""memory":{"bytes":10,"capacity":99,"entries":1,"limit_bytes":200,"reserved_bytes":20},"#,
    r#""phase":"ready","pid":7,"reloads":{"done":0,"failed":1,"problems":["p"]},"#,
    r#""trouble":["t"],"verify":{"checked":1,"nines":0.5,"oldest_wrong_seconds":0.0,"rate":1.0,"#,
    r#""unknown":0,"wrong":0},"version":"0.1.0"}"#,
);

#[test]
fn the_status_is_read_as_it_is_written() {
    assert_unchanged::<Status>(STATUS);
    // Members go out in the order of their names, as they always did.
    let sorted: Value = serde_json::from_str(STATUS).expect("JSON");
    assert_eq!(sorted.to_string(), STATUS);
}

#[test]
fn the_other_answers_and_requests_are_read_as_they_are_written() {
    assert_unchanged::<CurrentLogLevel>(r#"{"level":"info"}"#);
    assert_unchanged::<LogChange>(r#"{"level":"debug","for":null}"#);
    assert_unchanged::<InvalidateRequest>(
        r#"{"domain":"c","keys":["1"],"wait":"fleet","timeout":"2s"}"#,
    );
    assert_unchanged::<InvalidateRequest>(r#"{"domain":"c","all":true,"wait":"none"}"#);
    assert_unchanged::<InvalidateResponse>(
        r#"{"token":"t","seq":7,"acknowledged":true,"sidecars":2,"silent":["m"],"took_ms":3}"#,
    );
}

#[test]
fn an_event_is_read_as_it_is_written() {
    const HEAD: &str = r#""at":"2026-11-22T14:02:11.032Z""#;
    for data in [
        concat!(
            r#""domains":[{"domain":"c","lease_held":true,"seq":null}],"event":"listening","#,
            r#""keys":true,"pid":7,"redis_connected":null,"version":"0.1.0""#,
        ),
        r#""domain":"c","event":"hinted""#,
        r#""because":"epoch","domain":"c","event":"emptied""#,
        r#""domain":"c","event":"lease-held""#,
        r#""domain":"c","event":"lease-lost""#,
        r#""event":"redis-connected""#,
        r#""because":"refused","event":"redis-disconnected""#,
        r#""bytes":9,"dataset":"d","domain":"c","event":"filled","rounds":1,"took_ms":8.0"#,
        concat!(
            r#""because":"off","bytes":0,"dataset":null,"domain":"c","event":"not-kept","#,
            r#""rounds":2,"took_ms":0.1"#,
        ),
        concat!(
            r#""bytes":9,"dataset":"d","domain":"c","event":"found","in":"redis","key":"42","#,
            r#""took_ms":1.5"#,
        ),
        concat!(
            r#""domain":"c","event":"failed","failed":[{"reason":"not-found","source":"s"}],"#,
            r#""took_ms":1.5"#,
        ),
        concat!(
            r#""deadline_passed":true,"domain":"c","event":"failed","failed":[{"detail":"x","#,
            r#""reason":"timeout","source":"s"}],"took_ms":1.5"#,
        ),
        r#""domain":"c","event":"failed","failed":[],"overloaded":"memory","took_ms":1.5"#,
        r#""event":"reloaded""#,
        r#""event":"reload-refused","problems":["p"]"#,
        r#""count":3,"event":"missed""#,
        r#""because":"the sidecar drains","event":"ends""#,
    ] {
        assert_event_unchanged(&format!("{{{HEAD},{data}}}"));
    }
    let invalidated = r#""domain":"c","event":"invalidated","keys":1"#;
    assert_event_unchanged(&format!(r#"{{"all":false,{HEAD},{invalidated},"seq":7,"tags":0}}"#));
    let named = r#""named":{"keys":["1"],"tags":[]},"seq":7,"tags":0"#;
    assert_event_unchanged(&format!(r#"{{"all":false,{HEAD},{invalidated},{named}}}"#));
}

fn entry_status() -> EntryStatus {
    EntryStatus {
        age_seconds: 1,
        believed: true,
        bytes: 2,
        dataset: None,
        fence: None,
        not_found: true,
        parts: None,
        readable: false,
        rounds: None,
        seq: None,
        tags: DatasetTags::Count(0),
        ttl_seconds: -3,
        data: None,
    }
}

fn dataset_status(memory: Option<TierStatus>, redis: RedisTierStatus) -> String {
    let status = DatasetStatus {
        domain: "c".to_owned(),
        plan: "p".to_owned(),
        memory,
        redis,
        store: None,
        applied: None,
        lease_held: true,
    };
    serde_json::to_string(&status).expect("JSON")
}

#[test]
fn a_dataset_in_memory_and_in_redis_is_written_with_its_members_in_order() {
    let part = DatasetPart {
        bytes: 4,
        etag: Some("\"e\"".to_owned()),
        source: "s".to_owned(),
        validator: "strong",
    };
    let with_data = EntryStatus {
        dataset: Some("d".to_owned()),
        fence: Some("t".to_owned()),
        not_found: false,
        parts: Some(vec![part]),
        readable: true,
        rounds: Some(1),
        seq: Some(7),
        tags: DatasetTags::Names(vec!["tag".to_owned()]),
        data: serde_json::from_str("1.10").ok(),
        ..entry_status()
    };
    let written = dataset_status(
        Some(TierStatus::Entry(Box::new(entry_status()))),
        RedisTierStatus::Present(Some(TierStatus::Entry(Box::new(with_data)))),
    );
    let expected = concat!(
        r#"{"domain":"c","plan":"p","memory":{"age_seconds":1,"believed":true,"bytes":2,"#,
        r#""fence":null,"not_found":true,"seq":null,"tags":0,"ttl_seconds":-3},"#,
        r#""redis":{"age_seconds":1,"believed":true,"bytes":2,"dataset":"d","fence":"t","#,
        r#""parts":[{"bytes":4,"etag":"\"e\"","source":"s","validator":"strong"}],"#,
        r#""readable":true,"rounds":1,"seq":7,"tags":["tag"],"ttl_seconds":-3,"data":1.10},"#,
        r#""store":null,"applied":null,"lease_held":true}"#,
    );
    assert_eq!(written, expected);
}

#[test]
fn a_tier_without_a_readable_entry_is_written_as_what_is_known() {
    let redis = |tier| dataset_status(None, RedisTierStatus::Present(tier));
    let around = |redis: &str| {
        let head = r#"{"domain":"c","plan":"p","memory":null,"#;
        format!(r#"{head}{redis}"store":null,"applied":null,"lease_held":true}}"#)
    };
    let unreadable = UnreadableStatus {
        bytes: 9,
        fence: "t".to_owned(),
        readable: false,
        seq: 7,
        ttl_seconds: 3,
    };
    let members = r#"{"bytes":9,"fence":"t","readable":false,"seq":7,"ttl_seconds":3}"#;
    let written = redis(Some(TierStatus::Unreadable(unreadable)));
    assert_eq!(written, around(&format!(r#""redis":{members},"#)));
    let trouble = TierStatus::Trouble { trouble: "gone".to_owned() };
    assert_eq!(redis(Some(trouble)), around(r#""redis":{"trouble":"gone"},"#));
    assert_eq!(redis(None), around(r#""redis":null,"#));
    assert_eq!(dataset_status(None, RedisTierStatus::Absent), around(""));
}

/// The stream sorts the members of an event by their names.
fn assert_event_unchanged(json: &str) {
    let event: AdminEvent = serde_json::from_str(json).expect("the type reads it");
    assert!(event.kind.is_some(), "{json}");
    assert_eq!(serde_json::to_value(&event).expect("JSON").to_string(), json);
}

#[test]
fn another_release_is_read_as_far_as_it_is_known() {
    let older: Status = serde_json::from_str(r#"{"nines": 5}"#).expect("the type reads it");
    assert_eq!(older, Status::default());
    let newer = r#"{"at": "t", "event": "verified", "nines": 5}"#;
    let event: AdminEvent = serde_json::from_str(newer).expect("the type reads it");
    assert_eq!((event.at.as_deref(), event.kind), (Some("t"), None));
    let other_type = AdminEvent::from_data(r#"{"at": "t", "event": "missed", "count": "many"}"#);
    assert_eq!((other_type.at.as_deref(), other_type.kind), (Some("t"), None));
    assert_eq!(AdminEvent::from_data("no JSON").kind, None);
    let more = r#"{"event": "filled", "tier": "tape"}"#;
    let event: AdminEvent = serde_json::from_str(more).expect("the type reads it");
    assert_eq!(event.kind, Some(EventKind::Filled(CollectionReport::default())));
}
