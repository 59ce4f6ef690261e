//! MongoDB sources: which references are found, what they become, and what is refused.

use super::*;

/// A file with a MongoDB source of these lines.
fn file(lines: &str) -> String {
    let lines = lines.replace('\n', "\n    ");
    format!(
        "domain: c\nsources:\n  profile: {{url: 'https://a/{{key}}'}}\n  b:\n    mongodb: \
         mongodb://u:s3cret@db.shop/shop\n    mutual: unproven\n    collection: baskets\n    \
         {lines}\nversions:\n  v1: {{path: '/v1/{{key}}'}}\n"
    )
}

fn source(text: &str) -> MongoSource {
    let domain = good(text);
    let SourceKind::Mongo(mongo) = &domain.sources[1].kind else { panic!() };
    mongo.clone()
}

/// What is read, as text, where a bound value is `$0` and one in an expression `$literal 0`.
fn read(lines: &str) -> String {
    source(&file(lines)).text()
}

/// The messages of a source's problems, each with the text at its place.
fn problems_of(text: &str) -> Vec<(String, String)> {
    let problems = parse(Path::new("customer.yaml"), text, world()).unwrap_err();
    problems.iter().map(|it| (it.message.clone(), text[it.span.clone()].to_owned())).collect()
}

fn problems(lines: &str) -> Vec<(String, String)> {
    problems_of(&file(lines))
}

#[test]
fn a_value_of_a_filter_is_bound_as_it_is() {
    let found = source(&file(
        "filter: {a: '{key:int}', b: {$in: ['{profile.x.id:objectId}', 1]}, c: '{key}'}",
    ));
    assert_eq!(found.text(), r#"find {"a":$0,"b":{"$in":[$1,1]},"c":$2} :int :objectId "#);
    let path = vec!["x".to_owned(), "id".to_owned()];
    let part = Reference::Part { source: SourceIndex(0), path };
    assert_eq!(
        found.parameters.iter().map(|it| it.reference.clone()).collect::<Vec<_>>(),
        [Reference::Key, part, Reference::Key]
    );
    let domain = good(&file("filter: {a: '{profile.id}'}"));
    assert_eq!(domain.sources[1].needs, [SourceIndex(0)]);
    let text = file("filter: {a: '{b.id}'}");
    assert!(shown(&text).contains("wait for each other: `b -> b`"), "{}", shown(&text));
}

#[test]
fn a_value_in_an_expression_is_a_literal() {
    for (lines, text) in [
        ("filter: {$expr: {$eq: ['$a', '{key}']}}", r#"find {"$expr":{"$eq":["$a",$literal 0]}} "#),
        (
            "filter: {$or: [{a: '{key}'}, {$expr: {$gt: [b, {$literal: {c: '{key}'}}]}}]}",
            r#"find {"$or":[{"a":$0},{"$expr":{"$gt":["b",{"$literal":{"c":$1}}]}}]}  "#,
        ),
        (
            "filter: {}\nprojection: {k: '{key}', a: {$elemMatch: {b: '{key}'}}}",
            r#"find {} projection {"k":$literal 0,"a":{"$elemMatch":{"b":$1}}}  "#,
        ),
        (
            "pipeline: [{$match: {a: '{key}'}}, {$set: {b: '{key}', c: ['{key}']}}]",
            r#"aggregate [{"$match":{"a":$0}},{"$set":{"b":$literal 1,"c":[$literal 2]}}]   "#,
        ),
        (
            "pipeline: [{$lookup: {let: {k: '{key}'}, pipeline: [{$match: {x: 1}}]}}]",
            r#"aggregate [{"$lookup":{"let":{"k":$literal 0},"pipeline":[{"$match":{"x":1}}]}}] "#,
        ),
        (
            "pipeline: [{$lookup: {pipeline: [{$match: {x: '{key}'}}]}}]",
            r#"aggregate [{"$lookup":{"pipeline":[{"$match":{"x":$0}}]}}] "#,
        ),
        (
            "pipeline: [{$facet: {a: [{$match: {b: '{key}'}}, {$group: {_id: '{key}'}}]}}]",
            r#"aggregate [{"$facet":{"a":[{"$match":{"b":$0}},{"$group":{"_id":$literal 1}}]}}]  "#,
        ),
        (
            "pipeline:\n- $graphLookup:\n    startWith: '{key}'\n    \
             restrictSearchWithMatch: {b: '{key}'}",
            concat!(
                r#"aggregate [{"$graphLookup":{"startWith":$literal 0,"#,
                r#""restrictSearchWithMatch":{"b":$1}}}]  "#
            ),
        ),
        (
            "pipeline: [{$unionWith: {coll: a, pipeline: [{$match: {b: '{key}'}}]}}]",
            r#"aggregate [{"$unionWith":{"coll":"a","pipeline":[{"$match":{"b":$0}}]}}] "#,
        ),
        (
            "pipeline: [{$set: {a: {$regexMatch: {input: '{key}', regex: '^a'}}}}]",
            r#"aggregate [{"$set":{"a":{"$regexMatch":{"input":$literal 0,"regex":"^a"}}}}] "#,
        ),
    ] {
        assert_eq!(read(lines), text, "{lines}");
    }
}

#[test]
fn scalars_are_what_yaml_makes_of_them() {
    let fields = [
        "a: 1",
        "b: -2147483649",
        "c: 1.50",
        "d: true",
        "e: null",
        "f: '1'",
        "g: text",
        "h: 0x1F",
        "i: 1e3",
        "j: .inf",
        "k: '{}'",
        "l: '{other}'",
        "m: ~",
        "n: '${N}'",
        "o: ${N}",
        "p: '$$HOME'",
    ];
    let lines = format!("filter:\n  {}", fields.join("\n  "));
    assert_eq!(
        read(&lines),
        concat!(
            r#"find {"a":1,"b":-2147483649,"c":1.5,"d":true,"e":null,"f":"1","g":"text","h":31,"#,
            r#""i":1000.0,"j":inf,"k":"{}","l":"{other}","m":null,"n":"7","o":7,"p":"$$HOME"}"#
        )
    );
}

#[test]
fn whatever_else_looks_like_a_reference_is_a_problem_at_its_place() {
    for (lines, message, place) in [
        ("filter: {a: 'x{key}'}", "a reference cannot stand in a longer text", "{key}"),
        ("filter: {a: '{key} '}", "a reference cannot stand in a longer text", "{key}"),
        ("filter: {a: '{key}{key}'}", "a reference cannot stand in a longer text", "{key}"),
        ("filter: {a: '{key:int}x'}", "a reference cannot stand in a longer text", "{key:int}"),
        ("filter: {a: {key}}", "without quotes this is a document", "{key}"),
        ("filter: {a: {key:int}}", "without quotes this is a document", "{key:int}"),
        ("filter: {'{key}': 1}", "a reference cannot stand in the name of a field", "'{key}'"),
        ("filter: {a: '{key:float}'}", "there is no such conversion", "float"),
        ("filter: {a: '{key:}'}", "there is no such conversion", "{key:}"),
        ("filter: {a: '{profil.id}'}", "there is no source `profil`", "{profil.id}"),
        ("filter: {a: '{profile}'}", "a source's whole part is no scalar", "{profile}"),
        ("filter: {a: '{key.id}'}", "the key has no members", "{key.id}"),
        ("filter: {a: {$regex: '{key}'}}", HERE, "{key}"),
        ("filter: {$jsonSchema: {pattern: '{key}'}}", HERE, "{key}"),
        ("filter: {}\nsort: {a: '{key:int}'}", HERE, "{key:int}"),
        ("pipeline: [{$limit: '{key:int}'}]", HERE, "{key:int}"),
        ("pipeline: [{$sort: {a: '{key}'}}]", HERE, "{key}"),
        ("pipeline: [{$unwind: '{key}'}]", HERE, "{key}"),
        ("pipeline: [{$count: '{key}'}]", HERE, "{key}"),
        ("pipeline: [{$search: {text: '{key}'}}]", HERE, "{key}"),
        ("pipeline: [{$lookup: {from: '{key}'}}]", HERE, "{key}"),
        ("pipeline: [{$unionWith: '{key}'}]", HERE, "{key}"),
        ("pipeline: [{$facet: {a: [{$lookup: ['{key}']}]}}]", HERE, "{key}"),
        ("pipeline: [{$set: {a: {$regexFind: {input: a, regex: '{key}'}}}}]", HERE, "{key}"),
        ("pipeline: [{$set: {a: {$getField: '{key}'}}}]", HERE, "{key}"),
        ("pipeline: [{$set: {a: {$getField: {$literal: '{key}'}}}}]", HERE, "{key}"),
        ("pipeline: [{$set: {a: {$setField: {field: '{key}', value: 1}}}}]", HERE, "{key}"),
    ] {
        assert_eq!(problems(lines), [(message.to_owned(), place.to_owned())], "{lines}");
    }
    let text = file("filter: {}").replace("collection: baskets", "collection: '{key}'");
    let message = "a reference cannot stand in the name of a collection";
    assert_eq!(problems_of(&text), [(message.to_owned(), "{key}".to_owned())]);
}

const HERE: &str = "a reference cannot stand here: it could mean more than a value";

#[test]
fn what_runs_code_or_writes_is_refused_anywhere() {
    for lines in [
        "filter: {$where: 'true'}",
        "filter: {a: {b: [{$where: 'true'}]}}",
        "filter: {$expr: {$function: {body: x}}}",
        "pipeline: [{$group: {_id: 1, a: {$accumulator: {}}}}]",
        "pipeline: [{$out: a}]",
        "pipeline: [{$merge: {into: a}}]",
        "pipeline: [{$facet: {a: [{$lookup: {pipeline: [{$out: b}]}}]}}]",
        "filter: {}\nprojection: {a: {$literal: {$function: {}}}}",
        "filter: {}\nsort: {a: {$where: 1}}",
    ] {
        let found = problems(lines);
        assert!(found.len() == 1 && found[0].0.ends_with("is not taken"), "{lines}: {found:?}");
    }
}

#[test]
fn templates_are_bounded() {
    let deep = format!("filter: {{a: {}1{}}}", "[".repeat(40), "]".repeat(40));
    let many = format!("filter: {{a: [{}]}}", "1,".repeat(10_001));
    let long = format!("filter: {{a: '{}'}}", "x".repeat(70_000));
    let references = format!("filter: {{a: [{}]}}", "'{key}',".repeat(257));
    for (lines, message) in [
        (deep, "this is nested too deeply"),
        (many, "the source has too many values"),
        (long, "the source's query is too long"),
        (references, "the source has too many references"),
    ] {
        let found = problems(&lines);
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!(found[0].0, message);
    }
}

#[test]
fn the_password_is_in_no_plan_and_in_no_text() {
    let one = good(&file("filter: {a: 1}"));
    let other = good(&file("filter: {a: 1}").replace("s3cret", "n3w"));
    assert_eq!(one.plan, other.plan);
    assert_ne!(one.sources, other.sources);
    assert!(!format!("{one:?}").contains("s3cret"));
    assert_eq!(one.sources[1].address(), "mongodb://db.shop:27017/shop");
    for (from, to) in [
        ("u:", "v:"),
        ("/shop", "/other"),
        ("db.shop", "db2.shop"),
        ("/shop", "/shop?replicaSet=a"),
        ("a: 1", "a: 1.0"),
        ("a: 1", "a: '1'"),
        ("a: 1", "a: '{key}'"),
        ("a: 1", "b: 1"),
        ("baskets", "orders"),
    ] {
        let other = good(&file("filter: {a: 1}").replacen(from, to, 1));
        assert_ne!(one.plan, other.plan, "{from} {to}");
    }
    let plan = |value: &str| good(&file(&format!("filter: {{a: '{value}'}}"))).plan;
    assert_ne!(plan("{key}"), plan("{key:int}"));
    assert_ne!(plan("{key}"), plan("{profile.id}"));
}

#[test]
fn a_url_is_read_with_all_that_can_stand_in_it() {
    let database = |url: &str| {
        let text = file("filter: {}").replace("mongodb://u:s3cret@db.shop/shop", url);
        source(&text).database
    };
    let found = database(
        "mongodb://a%40b:p%3A@A.shop:7000,[::1]/my?replicaSet=rs&authSource=admin&\
         authMechanism=SCRAM-SHA-256&retryWrites=true&w=majority&tls=true&readPreference=primary",
    );
    assert_eq!(found.hosts, [("a.shop".into(), 7000), ("::1".into(), 27017)]);
    assert_eq!(found.to_string(), "mongodb://a.shop:7000,[::1]:27017/my");
    assert_eq!((&*found.name, found.replica_set.as_deref()), ("my", Some("rs")));
    let MongoCredential::Password { user, password, source, mechanism } = found.credential else {
        panic!()
    };
    assert_eq!((&*user, &*source), ("a@b", "admin"));
    assert_eq!((password, mechanism), (Password("p:".into()), Some(ScramMechanism::Sha256)));
    assert_eq!(found.server, ServerIdentity::of_host("a.shop"));
    let found = database("mongodb://a/b?authMechanism=MONGODB-X509&directConnection=true");
    assert_eq!((found.credential, found.is_direct), (MongoCredential::Certificate, true));
}

#[test]
fn the_problems_of_a_collection_say_what_to_do() {
    let with = |from: &str, to: &str| shown(&file("filter: {}").replace(from, to));
    let url = |options: &str| with("/shop\n", &format!("/shop?{options}\n"));
    insta::assert_snapshot!(
        [
            with("    mutual: unproven\n", ""),
            with("unproven", "proven"),
            with("    collection: baskets\n", ""),
            with("    filter: {}\n", ""),
            with("mongodb://", "mongodb+srv://"),
            with("/shop\n", "/\n"),
            with(":s3cret@", "@"),
            url("tlsInsecure=true&tlsAllowInvalidCertificates=true&ssl=false"),
            url("readPreference=secondary&compressors=zlib&authMechanism=PLAIN"),
            url("authMechanism=MONGODB-X509"),
            with("db.shop/shop", "db.shop,db2.shop/shop?directConnection=true"),
            with("    filter: {}", "    filter: {}\n    pipeline: []"),
            with("    filter: {}", "    filter: []"),
            with("    filter: {}", "    pipeline: {}"),
            with("    filter: {}", "    pipeline: [{$match: {}, $set: {}}, $sort]"),
            with("    filter: {}", "    filter: {}\n    server: db.shop\n    query: select 1"),
            with("    filter: {}", "    filter: {a: 9223372036854775808, b: 1e999}"),
            with("    filter: {}", "    filter: {a: {b: {$where: 1}}}"),
        ]
        .join("\n")
    );
}
