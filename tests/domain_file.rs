//! Domain files on disk: which are read, which stay in force on a reload, which the schema accepts,
//! and the cases that fuzzing found.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bfb::diagnostics::{Problem, render};
use bfb::domain::{Domain, Loaded, ProgramProblem, SCHEMA, World, files, load, parse, read_text};
use bfb::shape::Program;
use tempfile::TempDir;

mod irregular;

fn world() -> World<'static> {
    World {
        variable: &|_| None,
        read: &read_text,
        program: &|_| Ok(()),
        allow_http: false,
        allow_https: true,
    }
}

fn file(domain: &str, path: &str) -> String {
    format!(
        "domain: {domain}\nsources: {{a: {{url: 'https://a/{{key}}'}}}}\nversions: {{v1: {{path: \
         '{path}'}}}}\n"
    )
}

/// A folder of domain files.
struct Folder(TempDir);

impl Folder {
    fn of(files: &[(&str, &str)]) -> Self {
        let folder = Self(tempfile::tempdir().unwrap());
        for (name, text) in files {
            folder.write(name, text);
        }
        folder
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn paths(&self) -> [PathBuf; 1] {
        [self.0.path().into()]
    }

    fn load(&self) -> Loaded {
        load(&self.paths(), world())
    }

    fn reload(&self, loaded: &Loaded) -> Loaded {
        loaded.reload(&self.paths(), world())
    }
}

/// Each domain in force and the path of its first version.
fn in_force(loaded: &Loaded) -> BTreeMap<&str, &str> {
    loaded
        .domains()
        .iter()
        .map(|(name, domain)| (&**name, &*domain.versions[0].path.text))
        .collect()
}

/// The names of the files that have problems, one for each problem.
fn blamed(loaded: &Loaded) -> Vec<String> {
    let name = |problem: &Problem| problem.file.file_name().unwrap().to_str().unwrap().to_owned();
    loaded.problems().iter().map(name).collect()
}

fn domain<'l>(loaded: &'l Loaded, name: &str) -> &'l Arc<Domain> {
    &loaded.domains()[name]
}

#[test]
fn a_folder_means_its_yaml_files_and_nothing_below_or_hidden() {
    let folder = Folder::of(&[("b.yaml", ""), ("a.yml", ""), (".c.yaml", ""), ("d.json", "")]);
    fs::create_dir(folder.path("e.yaml")).unwrap();
    fs::create_dir(folder.path("sub")).unwrap();
    folder.write("sub/f.yaml", "");
    assert_eq!(files(&folder.paths()).unwrap(), [folder.path("a.yml"), folder.path("b.yaml")]);
    let twice = [folder.path("d.json"), folder.path("b.yaml"), folder.path("./b.yaml")];
    assert_eq!(files(&twice).unwrap().len(), 2);
}

#[test]
fn a_missing_path_and_an_empty_folder_are_problems() {
    let folder = Folder::of(&[]);
    let problems = files(&[folder.path("nowhere"), folder.0.path().into()]).unwrap_err();
    assert_eq!(problems.len(), 2, "{problems:?}");
    problems.iter().for_each(says_all);
    let place = format!("{}:1:1\n", folder.path("nowhere").display());
    assert!(
        render(&problems, false).contains(&place),
        "the text form tells line and column as the other does"
    );
    assert!(render(&problems, false).contains("the path cannot be read: it does not exist"));
    assert!(render(&problems, false).contains("expected at least one `*.yaml` or `*.yml`"));
}

#[cfg(unix)]
#[test]
fn a_volume_of_symbolic_links_is_read_and_its_swap_is_seen() {
    use std::os::unix::fs::symlink;
    let folder = Folder::of(&[]);
    for (name, path) in [("..1", "/v1/{key}"), ("..2", "/v2/{key}")] {
        fs::create_dir(folder.path(name)).unwrap();
        folder.write(&format!("{name}/c.yaml"), &file("c", path));
    }
    symlink("..1", folder.path("..data")).unwrap();
    symlink("..data/c.yaml", folder.path("c.yaml")).unwrap();
    let loaded = folder.load();
    assert_eq!(in_force(&loaded), [("c", "/v1/{key}")].into());
    assert!(loaded.is_current(&folder.paths(), world()));
    symlink("..2", folder.path("..new")).unwrap();
    fs::rename(folder.path("..new"), folder.path("..data")).unwrap();
    assert!(!loaded.is_current(&folder.paths(), world()));
    assert_eq!(in_force(&folder.reload(&loaded)), [("c", "/v2/{key}")].into());
}

#[test]
fn a_broken_file_keeps_its_own_old_version_and_stops_no_other() {
    let folder =
        Folder::of(&[("a.yaml", &file("a", "/a/{key}")), ("b.yaml", &file("b", "/b/{key}"))]);
    let first = folder.load();
    assert!(first.problems().is_empty());
    folder.write("a.yaml", "domain: [");
    folder.write("b.yaml", &file("b", "/bb/{key}"));
    let second = folder.reload(&first);
    assert_eq!(in_force(&second), [("a", "/a/{key}"), ("b", "/bb/{key}")].into());
    assert_eq!(second.problems().len(), 1);
    assert!(Arc::ptr_eq(domain(&first, "a"), domain(&second, "a")));
    assert!(second.is_current(&folder.paths(), world()));
    folder.write("a.yaml", &file("a", "/aa/{key}"));
    let third = folder.reload(&second);
    assert_eq!(in_force(&third), [("a", "/aa/{key}"), ("b", "/bb/{key}")].into());
    assert!(third.problems().is_empty());
    assert!(
        Arc::ptr_eq(domain(&second, "b"), domain(&third, "b")),
        "an unchanged file keeps its very domain"
    );
}

#[test]
fn a_file_that_is_broken_from_the_start_is_left_out() {
    let folder = Folder::of(&[("a.yaml", "domain: ["), ("b.yaml", &file("b", "/b/{key}"))]);
    let loaded = folder.load();
    assert_eq!(in_force(&loaded), [("b", "/b/{key}")].into());
    assert_eq!(loaded.problems().len(), 1);
}

#[test]
fn a_file_that_vanished_takes_its_domain_with_it() {
    let folder =
        Folder::of(&[("a.yaml", &file("a", "/a/{key}")), ("b.yaml", &file("b", "/b/{key}"))]);
    let loaded = folder.load();
    fs::remove_file(folder.path("a.yaml")).unwrap();
    assert!(!loaded.is_current(&folder.paths(), world()));
    assert_eq!(in_force(&folder.reload(&loaded)), [("b", "/b/{key}")].into());
}

#[test]
fn a_path_that_is_gone_changes_nothing_but_is_reported() {
    let folder = Folder::of(&[("a.yaml", &file("a", "/a/{key}"))]);
    let first = folder.load();
    fs::remove_file(folder.path("a.yaml")).unwrap();
    let second = folder.reload(&first);
    assert_eq!(in_force(&second), [("a", "/a/{key}")].into());
    assert_eq!(second.problems().len(), 1);
    assert!(
        second.is_current(&folder.paths(), world()),
        "there is no sense in reloading until the path is back"
    );
    folder.write("a.yaml", &file("a", "/a/{key}"));
    assert!(!second.is_current(&folder.paths(), world()));
    assert!(folder.reload(&second).problems().is_empty());
}

#[test]
fn a_newcomer_that_clashes_is_the_broken_one() {
    let folder = Folder::of(&[("b.yaml", &file("b", "/b/{key}"))]);
    let first = folder.load();
    folder.write("a.yaml", &file("b", "/a/{key}"));
    folder.write("c.yaml", &file("c", "/c/x/{key}"));
    folder.write("d.yaml", &file("d", "/b/{key}"));
    let second = folder.reload(&first);
    assert_eq!(in_force(&second), [("b", "/b/{key}"), ("c", "/c/x/{key}")].into());
    assert_eq!(blamed(&second), ["a.yaml", "d.yaml"]);
    let shown = render(second.problems(), false);
    assert!(shown.contains("the domain `b` is already in `"), "{shown}");
    assert!(shown.contains("this path overlaps with `/b/{key}` in `"), "{shown}");
    fs::remove_file(folder.path("b.yaml")).unwrap();
    let third = folder.reload(&second);
    assert_eq!(
        in_force(&third),
        [("b", "/a/{key}"), ("c", "/c/x/{key}"), ("d", "/b/{key}")].into()
    );
}

#[test]
fn overlaps_are_found_across_files_on_the_first_load() {
    let folder =
        Folder::of(&[("a.yaml", &file("a", "/a/{key}/x")), ("b.yaml", &file("b", "/a/b/{key}"))]);
    let loaded = folder.load();
    assert_eq!(in_force(&loaded), [("a", "/a/{key}/x")].into());
    assert_eq!(blamed(&loaded), ["b.yaml"]);
}

#[test]
fn two_files_can_swap_their_paths_in_one_reload() {
    let folder =
        Folder::of(&[("a.yaml", &file("a", "/a/{key}")), ("b.yaml", &file("b", "/b/{key}"))]);
    let first = folder.load();
    folder.write("a.yaml", &file("a", "/b/{key}"));
    folder.write("b.yaml", &file("b", "/a/{key}"));
    let second = folder.reload(&first);
    assert_eq!(in_force(&second), [("a", "/b/{key}"), ("b", "/a/{key}")].into());
    assert!(second.problems().is_empty());
}

#[test]
fn half_a_swap_leaves_both_files_as_they_were() {
    let folder =
        Folder::of(&[("a.yaml", &file("a", "/a/{key}")), ("b.yaml", &file("b", "/b/{key}"))]);
    let first = folder.load();
    folder.write("a.yaml", &file("a", "/b/{key}"));
    folder.write("b.yaml", "domain: [");
    let second = folder.reload(&first);
    assert_eq!(in_force(&second), [("a", "/a/{key}"), ("b", "/b/{key}")].into());
    assert_eq!(second.problems().len(), 2);
}

#[test]
fn a_changed_schema_or_secret_file_makes_a_reload_worth_while() {
    let folder = Folder::of(&[("token", "one\n"), ("s.json", "{}")]);
    folder.write(
        "a.yaml",
        &file("a", "/a/{key}").replace("'/a/{key}'", "'/a/{key}', schema: s.json"),
    );
    folder.write(
        "b.yaml",
        &file("b", "/b/{key}")
            .replace("'https://a/{key}'", "'https://a/{key}', headers: {x: \"${TOKEN}\"}"),
    );
    let token = folder.path("token").to_str().unwrap().to_owned();
    let variable = |name: &str| (name == "TOKEN_FILE").then(|| token.clone());
    let world = World { variable: &variable, ..world() };
    let first = load(&folder.paths(), world);
    assert_eq!(first.problems(), []);
    assert!(first.is_current(&folder.paths(), world));
    folder.write("s.json", "{\"type\": \"object\"}");
    assert!(!first.is_current(&folder.paths(), world));
    let second = first.reload(&folder.paths(), world);
    assert!(domain(&second, "a").versions[0].schema.as_ref().unwrap().get("type").is_some());
    assert!(Arc::ptr_eq(domain(&first, "b"), domain(&second, "b")));
    folder.write("token", "two\n");
    assert!(!second.is_current(&folder.paths(), world));
    let third = second.reload(&folder.paths(), world);
    assert_eq!(domain(&third, "b").sources[0].http().unwrap().headers["x"], "two");
    assert_eq!(domain(&third, "b").plan, domain(&first, "b").plan);
    assert_ne!(domain(&third, "b").sources, domain(&first, "b").sources);
    assert!(third.is_current(&folder.paths(), world));
}

#[test]
fn a_file_that_is_too_large_or_not_text_is_refused() {
    let folder = Folder::of(&[("a.yaml", &"#".repeat((1 << 20) + 1))]);
    fs::write(folder.path("b.yaml"), [0xff, 0xfe]).unwrap();
    let loaded = folder.load();
    let messages: Vec<_> =
        loaded.problems().iter().map(|problem| problem.message.as_str()).collect();
    let cannot = "the file cannot be read: it is";
    assert_eq!(
        messages,
        [format!("{cannot} larger than 1 MiB"), format!("{cannot} not UTF-8 text")]
    );
    loaded.problems().iter().for_each(says_all);
    assert!(parse(Path::new("a"), &"#".repeat((1 << 20) + 1), world()).is_err());
}

/// Each problem has file, line, column, the expected value and a hint.
fn says_all(problem: &Problem) {
    let written = serde_json::to_value(problem).unwrap();
    for member in ["file", "message", "expected", "hint"] {
        assert!(
            written[member].as_str().is_some_and(|text| !text.trim().is_empty()),
            "no `{member}`: {written}"
        );
    }
    for member in ["line", "column"] {
        assert!(
            written[member].as_u64().is_some_and(|number| number > 0),
            "no `{member}`: {written}"
        );
    }
}

#[test]
fn a_problem_is_written_for_programs_too() {
    let problems = parse(Path::new("c.yaml"), &file("C", "/v1/{key}"), world()).unwrap_err();
    let written = serde_json::to_value(&problems).unwrap();
    let expected = serde_json::json!([{
        "file": "c.yaml",
        "line": 1,
        "column": 9,
        "message": "`C` cannot be the name of a domain",
        "expected": "a lower-case letter, then lower-case letters, digits, `_` or `-`",
        "hint": "write `c`",
    }]);
    assert_eq!(written, expected);
}

/// The example of the documentation, as JSON: the schema checks values, not YAML.
fn example() -> serde_json::Value {
    serde_json::json!({
        "domain": "customer",
        "key": "[0-9]{1,18}",
        "sources": {
            "profile": {
                "url": "https://profile.crm:8443/customers/{key}",
                "server": "spiffe://shop.example/ns/crm/sa/profile",
                "missing": "not-found",
            },
            "favorites": {
                "url": "https://favorites.shop:8443/customers/{key}/favorites",
                "missing": [],
                "headers": {"accept-language": "en"},
            },
            "orders": {
                "url": "https://orders.shop:8443/accounts/{profile.account_id}/orders",
                "timeout": "400ms",
                "retries": 2,
                "concurrency": 64,
                "max_body": "4MiB",
            },
            "loyalty": {
                "postgres": "${LOYALTY_DB}",
                "query": "select tier, points from customer_loyalty where customer_id = $key",
                "missing": null,
            },
            "baskets": {
                "mongodb": "${BASKETS_DB}",
                "collection": "baskets",
                "filter": {"customer": "{key:int}", "open": true},
                "mutual": "unproven",
            },
        },
        "atomicity": "snapshot",
        "deadline": "1s",
        "versions": {
            "v1": {
                "path": "/v1/customers/{key}",
                "shape": "{id: .profile.id, name: .profile.name, favorites, \
                    orders: [.orders[] | {id, total}]}\n",
                "deprecated": "2026-06-01",
                "sunset": "2027-06-01",
                "successor": "v2",
            },
            "v2": {"path": "/v2/customers/{key}", "schema": "customer.v2.json"},
        },
        "cache": {"ttl": "60s", "missing_ttl": "5s", "stale_if_error": "0s",
            "tags": "[.profile.segment]"},
    })
}

#[test]
fn the_schema_takes_the_example_and_refuses_what_is_broken() {
    let schema: serde_json::Value = serde_json::from_str(SCHEMA).unwrap();
    jsonschema::meta::validate(&schema).unwrap();
    let validator = jsonschema::validator_for(&schema).unwrap();
    let errors: Vec<_> = validator.iter_errors(&example()).map(|error| error.to_string()).collect();
    assert!(errors.is_empty(), "{errors:?}");
    let baskets = |more: serde_json::Value| {
        let mut source = serde_json::json!({"mongodb": "mongodb://a/b", "collection": "c"});
        let members = more.as_object().unwrap().clone();
        source.as_object_mut().unwrap().extend(members);
        source
    };
    let broken: [(&str, serde_json::Value); 14] = [
        ("/domain", "Customer".into()),
        ("/sources", serde_json::json!({})),
        ("/sources/orders/retries", "2".into()),
        ("/sources/orders/retries", 11.into()),
        ("/sources/orders/timeout", 400.into()),
        ("/sources/profile", serde_json::json!({"missing": null})),
        ("/sources/profile", serde_json::json!({"url": "https://a/", "tiemout": "1s"})),
        ("/atomicity", "snap".into()),
        ("/versions/v2", serde_json::json!({"schema": "s.json"})),
        ("/versions/v1/sunset", "soon".into()),
        ("/sources/baskets", baskets(serde_json::json!({"filter": {}}))),
        ("/sources/baskets", baskets(serde_json::json!({"filter": {}, "mutual": "proven"}))),
        ("/sources/baskets", baskets(serde_json::json!({"mutual": "no"}))),
        (
            "/sources/baskets",
            baskets(serde_json::json!({"mutual": "no", "filter": {}, "pipeline": []})),
        ),
    ];
    for (pointer, value) in broken {
        let mut file = example();
        *file.pointer_mut(pointer).unwrap() = value;
        assert!(!validator.is_valid(&file), "{pointer}");
    }
}

/// Compiles a program as the process does.
fn program(text: &str) -> Result<(), ProgramProblem> {
    let problem = |error: bfb::shape::CompileError| ProgramProblem {
        at: error.at,
        message: error.message,
        expected: error.expected,
        hint: error.hint,
    };
    Program::compile(text).map(drop).map_err(problem)
}

#[test]
fn what_fuzzing_keeps_is_read_without_a_panic_and_every_problem_says_all() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/domain_file");
    let mut checked = 0;
    for entry in fs::read_dir(corpus).unwrap() {
        let bytes = fs::read(entry.unwrap().path()).unwrap();
        let text = String::from_utf8_lossy(&bytes);
        if let Err(problems) =
            parse(Path::new("corpus.yaml"), &text, World { program: &program, ..world() })
        {
            problems.iter().for_each(says_all);
            assert!(
                problems.iter().all(|problem| text.get(problem.span.clone()).is_some()),
                "{problems:?}"
            );
            assert!(!render(&problems, false).is_empty());
        }
        checked += 1;
    }
    assert!(checked >= 18, "the corpus is gone");
}

/// The file of the domain `a`, whose version has this schema.
fn with_schema(schema: &str) -> String {
    file("a", "/a/{key}").replace("'/a/{key}'", &format!("'/a/{{key}}', schema: '{schema}'"))
}

#[test]
fn a_schema_is_read_from_the_folder_of_its_file_or_below_and_from_nowhere_else() {
    use std::os::unix::fs::symlink;
    let elsewhere = Folder::of(&[("secret.json", "{\"title\": \"secret\"}")]);
    let folder = Folder::of(&[("s.json", "{}")]);
    fs::create_dir(folder.path("below")).unwrap();
    folder.write("below/s.json", "{}");
    symlink(elsewhere.path("secret.json"), folder.path("out.json")).unwrap();
    symlink(elsewhere.0.path(), folder.path("out")).unwrap();
    symlink("below/s.json", folder.path("in.json")).unwrap();
    for good in ["s.json", "./s.json", "below/s.json", "in.json"] {
        folder.write("a.yaml", &with_schema(good));
        assert!(folder.load().problems().is_empty(), "{good}: {:?}", folder.load().problems());
    }
    let absolute = folder.path("s.json").display().to_string();
    let up = format!("../{}/s.json", folder.0.path().file_name().unwrap().display());
    for bad in ["out.json", "out/secret.json", "below/../s.json", &absolute, &up, "/etc/hostname"] {
        folder.write("a.yaml", &with_schema(bad));
        let loaded = folder.load();
        let shown = render(loaded.problems(), false);
        assert!(shown.contains("not in this file's folder or below"), "{bad}: {shown}");
        assert!(!shown.contains("\"secret\"") && loaded.domains().is_empty());
    }
}

/// Some editors write a byte order mark.
#[test]
fn a_byte_order_mark_before_a_schema_or_a_secret_is_no_part_of_it() {
    let folder = Folder::of(&[("s.json", "\u{feff}{}"), ("token", "\u{feff}one\r\n")]);
    let text = with_schema("s.json").replace("{key}'}}", "{key}', headers: {x: '${TOKEN}'}}}");
    folder.write("a.yaml", &format!("\u{feff}{text}"));
    let token = folder.path("token").to_str().unwrap().to_owned();
    let variable = |name: &str| (name == "TOKEN_FILE").then(|| token.clone());
    let loaded = load(&folder.paths(), World { variable: &variable, ..world() });
    assert!(loaded.problems().is_empty(), "{}", render(loaded.problems(), false));
    assert_eq!(domain(&loaded, "a").sources[0].http().unwrap().headers["x"], "one");
}

#[test]
fn a_schema_in_a_volume_of_kubernetes_is_in_its_folder() {
    use std::os::unix::fs::symlink;
    let folder = Folder::of(&[]);
    fs::create_dir(folder.path("..2026_revision_1")).unwrap();
    folder.write("..2026_revision_1/a.yaml", &with_schema("s.json"));
    folder.write("..2026_revision_1/s.json", "{}");
    symlink("..2026_revision_1", folder.path("..data")).unwrap();
    for name in ["a.yaml", "s.json"] {
        symlink(Path::new("..data").join(name), folder.path(name)).unwrap();
    }
    let loaded = folder.load();
    assert!(loaded.problems().is_empty(), "{}", render(loaded.problems(), false));
    assert!(domain(&loaded, "a").versions[0].schema.is_some());
}
