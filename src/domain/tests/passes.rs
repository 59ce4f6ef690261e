//! Files that pass, and their meaning.

use std::time::Duration;

use super::*;

fn http(source: &Source) -> &HttpSource {
    source.http().unwrap()
}

#[test]
fn the_example_of_the_design_is_read_as_it_is_meant() {
    let domain = good(EXAMPLE);
    assert_eq!(&*domain.name, "customer");
    assert!(domain.key.matches("042") && !domain.key.matches("42x") && !domain.key.matches("42\n"));
    assert_eq!(domain.atomicity, Atomicity::Snapshot { rounds: 3.try_into().unwrap() });
    let [profile, favorites, orders] = &domain.sources[..] else { panic!() };
    assert_eq!(profile.missing, Missing::NotFound);
    assert_eq!(
        http(profile).server,
        ServerIdentity::Spiffe("spiffe://shop.example/ns/crm/sa/profile".into())
    );
    assert_eq!(favorites.missing, Missing::Value("[]".into()));
    assert_eq!(http(favorites).server, ServerIdentity::Dns("favorites.shop".into()));
    assert_eq!(http(favorites).headers["accept-language"], "en");
    assert_eq!(orders.needs, [SourceIndex(0)]);
    assert_eq!((orders.timeout, orders.retries), (Some(Duration::from_millis(400)), 2));
    let path = vec!["account_id".to_owned()];
    let pieces = [
        UrlPiece::Literal("/accounts/".into()),
        UrlPiece::Reference(Reference::Part { source: SourceIndex(0), path }),
        UrlPiece::Literal("/orders".into()),
    ];
    assert_eq!(http(orders).url.pieces, pieces);
    assert_eq!(http(orders).url.origin, "https://orders.shop:8443/");
    assert_eq!(domain.version("v1").unwrap().successor.as_deref(), Some("v2"));
    assert_eq!(domain.version("v2").unwrap().path.before, "/v2/customers/");
}

#[test]
fn a_pattern_of_alternatives_matches_whole_keys_only() {
    let domain = good(&EXAMPLE.replace("'[0-9]{1,18}'", "a|b"));
    assert!(domain.key.matches("a") && domain.key.matches("b") && !domain.key.matches("ax"));
}

#[test]
fn not_found_is_the_same_in_quotes() {
    for yaml in ["not-found", "'not-found'", "\"not-found\""] {
        let domain = good(&EXAMPLE.replace("missing: []", &format!("missing: {yaml}")));
        assert_eq!(domain.sources[1].missing, Missing::NotFound, "{yaml}");
    }
}

#[test]
fn missing_takes_any_value() {
    for (yaml, json) in [
        ("null", "null"),
        ("[]", "[]"),
        ("{}", "{}"),
        ("no", "\"no\""),
        ("2026-06-01", "\"2026-06-01\""),
        ("'7'", "\"7\""),
        ("7", "7"),
        ("0x10", "16"),
        ("{a: [1, true, ~]}", "{\"a\":[1,true,null]}"),
        ("{key: null}", "{\"key\":null}"),
        ("'{\"a\": {}}'", "\"{\\\"a\\\": {}}\""),
        ("'{uuid}'", "\"{uuid}\""),
        ("|-\n      not_found", "\"not_found\""),
        ("|-\n      not-found", "\"not-found\""),
        ("none found", "\"none found\""),
        ("[not_found]", "[\"not_found\"]"),
    ] {
        let domain = good(&EXAMPLE.replace("missing: []", &format!("missing: {yaml}")));
        assert_eq!(domain.sources[1].missing, Missing::Value(json.into()), "{yaml}");
    }
}

#[test]
fn the_environment_is_put_in_before_a_value_is_typed() {
    let text = EXAMPLE
        .replace("concurrency: 64", "concurrency: ${N}")
        .replace("//profile.crm", "//${HOST}")
        .replace(
            "https://orders.shop:8443/accounts/{profile.account_id}/orders",
            "${U:-https://o/{profile.id}}",
        )
        .replace("retries: 2", "retries: ${UNSET:-4}")
        .replace("language: en", "language: \"${TOKEN} $${N} ${EMPTY:-x}\"");
    let domain = good(&text);
    assert_eq!(domain.sources[2].concurrency.get(), 7);
    assert_eq!(domain.sources[2].retries, 4);
    assert_eq!(http(&domain.sources[0]).url.origin, "https://profile.crm:8443/");
    assert_eq!(http(&domain.sources[1]).headers["accept-language"], "s3cret ${N} x");
}

#[test]
fn no_value_of_the_environment_adds_structure() {
    let text = EXAMPLE.replace("missing: []", "missing: ${EVIL}");
    let domain = good(&text);
    assert_eq!(domain.sources[1].missing, Missing::Value("\"a\\nretries: 9\"".into()));
    assert_eq!(domain.sources[1].retries, 1);
}

#[test]
fn the_plan_follows_what_a_dataset_holds_and_nothing_else() {
    let plan = good(EXAMPLE).plan;
    assert_eq!(plan.0.len(), 32);
    for (from, to) in [
        ("ttl: 60s", "ttl: 61s"),
        ("{id: .profile.id,", "{id: .profile.nr,"),
        ("/v1/customers/", "/v1/clients/"),
        ("timeout: 400ms", "timeout: 401ms"),
        ("retries: 2", "retries: 3"),
        ("concurrency: 64", "concurrency: 65"),
        ("max_body: 4MiB", "max_body: 5MiB"),
        ("deadline: 1s", "deadline: 3s"),
        ("//profile.crm", "//${HOST}"),
    ] {
        assert!(EXAMPLE.contains(from));
        assert_eq!(good(&EXAMPLE.replace(from, to)).plan, plan, "{from} -> {to}");
    }
    for (from, to) in [
        ("'[0-9]{1,18}'", "'[0-9]{1,17}'"),
        ("/{key}/favorites", "/{key}/favourites"),
        ("profile.account_id", "profile.account_no"),
        ("missing: []", "missing: [0]"),
        ("missing: []", "missing: not-found"),
        ("missing: []", ""),
        ("language: en", "language: de"),
        ("sa/profile", "sa/profiles"),
        ("[.profile.segment]", "[.profile.group]"),
        ("atomicity: snapshot", "atomicity: complete"),
        ("retries: 2", "pages: first"),
        ("favorites:\n", "favourites:\n"),
        ("accept-language: en", "accept: en"),
        ("accept-language: en", "accept-language: '${N}'"),
    ] {
        assert!(EXAMPLE.contains(from));
        assert_ne!(good(&EXAMPLE.replace(from, to)).plan, plan, "{from} -> {to}");
    }
}

/// The example with a header, where `TOKEN` has this value.
fn with_token(header: &str, token: &str) -> Domain {
    let text = EXAMPLE.replace("accept-language: en", header);
    let variable =
        |name: &str| if name == "TOKEN" { Some(token.to_owned()) } else { variable(name) };
    let world = World { variable: &variable, ..world() };
    parse(Path::new("customer.yaml"), &text, world).unwrap()
}

#[test]
fn a_new_token_is_no_new_plan_but_another_header_or_another_text_around_it_is() {
    let bearer = "authorization: 'Bearer ${TOKEN}'";
    let first = with_token(bearer, "s3cret-1");
    assert_eq!(http(&first.sources[1]).headers["authorization"], "Bearer s3cret-1");
    let second = with_token(bearer, "s3cret-2");
    assert_eq!(
        second.plan, first.plan,
        "a hash over the token would empty the cache, and show it to guesses"
    );
    assert_ne!(second.sources, first.sources, "the new token goes out");
    assert!(!format!("{first:?}").contains("s3cret"));
    for other in [
        "authorization: 'Basic ${TOKEN}'",
        "x-token: 'Bearer ${TOKEN}'",
        "authorization: 'Bearer ${TOKEN:-none}'",
        "authorization: 'Bearer s3cret-1'",
    ] {
        assert_ne!(with_token(other, "s3cret-1").plan, first.plan, "{other}");
    }
}

#[test]
fn by_default_a_key_is_one_segment_whoever_decodes_it() {
    let key = good(&EXAMPLE.replace("key: '[0-9]{1,18}'\n", "")).key;
    assert_eq!(key.text, r"[^/\\\p{Cc}]+");
    for good in ["42", "a b", "%2F", "ä😀", "..a"] {
        assert!(key.matches(good), "{good}");
    }
    for bad in ["", "a/b", "a\\b", "a\nb", "\u{7f}", "\u{85}"] {
        assert!(!key.matches(bad), "{bad:?}");
    }
}
