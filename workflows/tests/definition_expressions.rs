//! What expressions and templates give, what they refuse, and that none of them runs away.

use std::time::{Duration, Instant};

use phasework_workflows::Payload;
use phasework_workflows::definition::{Expression, MAX_LIST_ITEMS, OutputReads, Scope, Template};
use serde_json::{Value, json};

fn scope() -> Scope {
    let data = json!({
        "site": "https://example.org", "query": "a b&c", "limit": 20, "tags": ["x", "y", "x"], "none": null,
        "big": u64::MAX, "small": i64::MIN, "float": 0.1, "tiny": 5e-324, "one": 1.0,
        "users": [ { "name": "Ann", "age": 30 }, { "name": "Bob", "age": 20 } ],
        "nested": [ [1, 2], [3] ], "z": 1, "a": { "y": 1, "x": 2 },
    });
    let outputs = json!({
        "searching": { "GoogleSearcher": { "urls": ["u1", "u2"] } },
        "fetching-pages": { "PageDownloader": [ { "size": 10 }, { "size": 32 } ] },
    });
    Scope::new(&Payload::from(data), outputs, json!({ "id": "r1", "workflow": "search", "key": null }))
}

#[track_caller]
fn check(expression: &str, expected: &Value) {
    let item = scope().with_item(7, json!({ "url": "http://x/?a=1" }));
    let found = Expression::parse(expression).and_then(|expression| expression.evaluate(&item));
    match found {
        Ok(found) => assert_eq!(found, *expected, "{expression}"),
        Err(error) => panic!("{expression}: {error}"),
    }
}

#[test]
fn expressions_give_values() {
    for (expression, expected) in [
        ("outputs.searching.GoogleSearcher.urls", json!(["u1", "u2"])),
        ("outputs['fetching-pages'].PageDownloader | map(attribute='size') | sum", json!(42)),
        ("outputs['fetching-pages'].PageDownloader[0].size + 1", json!(11)),
        ("outputs.later.H | default(none)", Value::Null),
        ("outputs.later.H is defined", json!(false)),
        ("outputs.searching.GoogleSearcher is defined", json!(true)),
        ("outputs | list | sort", json!(["fetching-pages", "searching"])),
        ("run.id ~ '-' ~ index", json!("r1-7")),
        ("run.key is none", json!(true)),
        ("item.url", json!("http://x/?a=1")),
        ("index * 2", json!(14)),
        ("data.limit > 10 and 'x' in data.tags", json!(true)),
        ("'big' if data.limit >= 20 else 'small'", json!("big")),
        ("data.tags | unique | join(', ')", json!("x, y")),
        ("data.nested | flatten", json!([1, 2, 3])),
        ("data.users | selectattr('age', 'gt', 25) | map(attribute='name') | first", json!("Ann")),
        ("data.users | sort(attribute='age') | map(attribute='name') | list", json!(["Bob", "Ann"])),
        ("data.users | groupby('age') | length", json!(2)),
        ("data.tags | batch(2)", json!([["x", "y"], ["x"]])),
        ("data.query | urlencode", json!("a%20b%26c")),
        ("data.query | replace('a', 'é') | upper", json!("É B&C")),
        ("data.a | tojson", json!(r#"{"y":1,"x":2}"#)),
        ("data.site | tojson", json!("\"https://example.org\"")),
        ("data.a | items | list", json!([["y", 1], ["x", 2]])),
        ("data.a | dictsort | list", json!([["x", 2], ["y", 1]])),
        ("{'a': data.limit, 'b': [1, none]}", json!({ "a": 20, "b": [1, null] })),
        ("(1, 2)", json!([1, 2])),
        ("range(3)", json!([0, 1, 2])),
        ("range(3) | map('string') | list", json!(["0", "1", "2"])),
        ("dict(a=1)", json!({ "a": 1 })),
        ("data.tags + ['z']", json!(["x", "y", "x", "z"])),
        ("data.tags[1:]", json!(["y", "x"])),
        ("data.nothing | default('there')", json!("there")),
        ("data.tags | map('upper') | list", json!(["X", "Y", "X"])),
        ("2 ** 10 // 3 % 5", json!(1)),
        ("-data.limit * -2", json!(40)),
        ("7 / 2", json!(3.5)),
        ("data.tags | zip(data.nested) | list", json!([["x", [1, 2]], ["y", [3]]])),
        ("'a,b' | split(',')", json!(["a", "b"])),
        ("true", json!(true)),
        ("'' ~ true ~ none ~ 1.5 ~ 2", json!("truenull1.52")),
        ("[true, none, 1.5] | join(' ')", json!("true null 1.5")),
        ("data.limit * 3 ~ '!'", json!("60!")),
        ("'it''s' 'x'", json!("itsx")),
    ] {
        check(expression, &expected);
    }
}

#[test]
fn numbers_stay_what_they_are() {
    for (path, text) in [
        ("data.big", "18446744073709551615"),
        ("data.small", "-9223372036854775808"),
        ("data.float", "0.1"),
        ("data.tiny", "5e-324"),
        ("data.one", "1.0"),
        ("data.limit", "20"),
        ("data.big - 1", "18446744073709551614"),
        ("[data.big, {'n': data.small}]", r#"[18446744073709551615,{"n":-9223372036854775808}]"#),
    ] {
        let value = Expression::parse(path).unwrap().evaluate(&scope()).unwrap();
        assert_eq!(value.to_string(), text, "{path}");
    }
    let keys = Expression::parse("data").unwrap().evaluate(&scope()).unwrap().to_string();
    assert!(keys.starts_with(r#"{"site":"#) && keys.ends_with(r#""a":{"y":1,"x":2}}"#), "{keys}");
}

#[track_caller]
fn refused(expression: &str, why: &str) {
    let error = match Expression::parse(expression).and_then(|parsed| parsed.evaluate(&scope())) {
        Ok(value) => panic!("`{expression}` gave {}", &value.to_string()[..100.min(value.to_string().len())]),
        Err(error) => error.to_string(),
    };
    assert!(error.contains(why), "`{expression}`: {error}");
}

#[test]
fn errors_say_what_and_where() {
    for (expression, why) in [
        ("data.nope", "`data` has no `nope`, in `data.nope` at column 6"),
        ("data.a.b.c", "`data.a` has no `b`"),
        ("1 + data.nope", "`data` has no `nope`"),
        ("[1, data.nope]", "`data` has no `nope`"),
        ("outputs.later.H", "`outputs.later` has no `H`"),
        ("outputs['fetching-pages'].X.y", "`outputs['fetching-pages']` has no `X`"),
        ("item.url", "`item` is not there"),
        ("data.limit + 'x'", "at column"),
        ("data.limit | length", "cannot calculate length"),
        ("data.tags | sum", "can only sum numbers"),
        ("1 / 0", "column"),
        ("data.big * data.big", "unable to calculate"),
        ("data.big * 3", "64-bit"),
        ("2 ** 200", "column"),
        ("'inf' | float", "which JSON cannot say"),
        ("range", "call it"),
        ("data.tags | map('nope') | list", "nope"),
        ("1 +\n  data.nope", "at line 2, column 8"),
        ("data.site.upper()", "values have no methods"),
        ("data | attr", "missing argument"),
        ("", "the expression is empty"),
    ] {
        refused(expression, why);
    }
}

#[test]
fn errors_stand_at_whole_characters() {
    for source in ["data.a + (1\u{fffd}) % 7", "é", "data.a ü", "'ü' + € 1", "{{ ✓"] {
        let range = Expression::parse(source).expect_err(source).range();
        let slice = range.clone().map(|range| source.get(range));
        assert!(!matches!(slice, Some(None)), "{range:?} of {source:?}");
    }
}

#[test]
fn nothing_short_makes_something_huge() {
    let nested = "[".repeat(100) + &"]".repeat(100);
    for (expression, why) in [
        ("'x' * 100000000", "does not repeat texts"),
        ("100000000 * 'x'", "does not repeat texts"),
        ("[0] * 100000000", "does not repeat texts or lists"),
        ("(data.site ~ 'x') * data.limit", "does not repeat texts"),
        ("range(1000000000)", "too many elements"),
        ("range(100000) | join(range(1000) | join('x'))", "too much text"),
        (
            "range(100000) | map('default', 1) | map('string') | map('replace', '', range(1000) | join('-')) | list",
            "too much text",
        ),
        (
            "data.site | replace('', data.site) | replace('', data.site) | replace('', data.site) | replace('', data.site) | replace('', data.site)",
            "too much text",
        ),
        ("range(100000) | map('in', range(100000)) | list", "in"),
        ("range(100000) | select('in', range(100000)) | list", "too many steps"),
        ("range(100000) | map('default') | list | tojson | length * range(100000)", "does not repeat"),
        (
            "range(90000)+range(90000)+range(90000)+range(90000)+range(90000)+range(90000)+range(90000)+range(90000)+range(90000)+range(90000)+range(90000)+range(90000)",
            "more than 1000000 items",
        ),
        ("data.tags | batch(0)", "at least 1"),
        ("data.tags ~ 'x'", "turn a list or an object into text"),
        (&nested, "brackets are nested more than 30 deep here"),
        (&"-".repeat(300), "this is no expression"),
        (&format!("{}1", "- ".repeat(299)), ""),
        (&format!("1{}", " + 1".repeat(200)), "at most 300 words"),
        (&"x".repeat(5000), "at most 4096 bytes; this one has 5000"),
    ] {
        let start = Instant::now();
        if why.is_empty() {
            Expression::parse(expression).unwrap().evaluate(&scope()).unwrap();
        } else {
            refused(expression, why);
        }
        // Without the limits, these take minutes or all of the memory.
        assert!(start.elapsed() < Duration::from_secs(30), "`{expression}` took {:?}", start.elapsed());
    }
}

#[test]
fn compiling_needs_little_stack() {
    let deepest: Vec<String> = vec![
        format!("1{}", " + 1".repeat(149)),
        format!("a{}", ".b".repeat(149)),
        format!("a{}", "[0]".repeat(99)),
        format!("a{}", "|abs".repeat(149)),
        format!("{}1", "-".repeat(299)),
        format!("{}1", "not ".repeat(299)),
        format!("{}1{}", "(".repeat(30), ")".repeat(30)),
        format!("{}1{}", "[".repeat(30), "]".repeat(30)),
        format!("{}1{}", "{1:".repeat(30), "}".repeat(30)),
        format!("{}1{}", "a[-".repeat(30), "]".repeat(30)),
        format!("{}1{}", "not(".repeat(30), ")".repeat(30)),
        format!("1{}", " if 1 else 1".repeat(74)),
        format!("1{}", " ** 1".repeat(149)),
        format!("1{}", " and 1".repeat(149)),
        format!("1{}", " == 1".repeat(149)),
        format!("1{}", " is odd".repeat(149)),
    ];
    let check = move || {
        for source in deepest {
            let compiled = Expression::parse(&source);
            let evaluated = compiled.map(|expression| expression.evaluate(&scope()).is_ok());
            drop(evaluated);
        }
    };
    std::thread::Builder::new().stack_size(1024 * 1024).spawn(check).unwrap().join().unwrap();
}

#[test]
fn templates_give_structures_and_texts() {
    let scope = scope().with_item(3, json!({ "n": 1 }));
    for (template, expected) in [
        (json!("{{ item }}"), json!({ "n": 1 })),
        (json!("  {{ item.n }}"), json!("  1")),
        (json!("{{item.n}}{{index}}"), json!("13")),
        (json!("page {{ index + 1 }} of {{ data.tags | length }}"), json!("page 4 of 3")),
        (json!("{{ data.tags }}!"), json!(r#"["x","y","x"]!"#)),
        (json!("{{ data.none }}!"), json!("null!")),
        (json!({ "a": ["{{ item.n }}", 1, null], "{{ x }}": "y" }), json!({ "a": [1, 1, null], "{{ x }}": "y" })),
        (json!("{{ {'a': {'b': 1}} }}"), json!({ "a": { "b": 1 } })),
        (json!("{{ '}}' }}"), json!("}}")),
        (json!("{{ '{{' }} and {{ '{%' }}"), json!("{{ and {%")),
        (json!("a }} b { c # {#"), json!("a }} b { c # {#")),
        (json!("no {} {x} expression"), json!("no {} {x} expression")),
        (json!(12345678901234567890_u64), json!(12345678901234567890_u64)),
        (json!("{{ data.big }}"), json!(u64::MAX)),
        (json!({}), json!({})),
    ] {
        let rendered = Template::parse(template.clone()).and_then(|template| template.render(&scope));
        assert_eq!(rendered.unwrap_or_else(|error| panic!("{template}: {error}")), expected, "{template}");
    }
}

#[test]
fn template_errors_say_where() {
    for (template, why) in [
        (json!("{{ data.x"), "this `{{` has no `}}`, in `{{ data.x` at column 1"),
        (json!({ "a/b": ["é {{ 1 + }}"] }), "at column 8 [at /a~1b/0]"),
        (json!("{{ }}"), "the expression is empty"),
        (json!("{{ data.x } }"), "has no `}}`"),
        (json!("{% for x in y %}{% endfor %}"), "`{% %}` is not supported"),
        (json!("{{ 'a' }}{% if %}"), "`{% %}` is not supported"),
        (
            json!(["{{ 1 }}", { "k": "x{{ data.nope }}" }]),
            "`data` has no `nope`, in ` data.nope ` at column 7 [at /1/k]",
        ),
        (json!("{{ range(100000) }}{{ range(100000) }}"), "larger than 1048576 bytes"),
    ] {
        let rendered = Template::parse(template.clone()).and_then(|template| template.render(&scope()));
        let error = rendered.map(|value| value.to_string().len()).unwrap_err();
        assert!(error.to_string().contains(why), "{template}: {error}");
    }
}

#[test]
fn what_is_read_is_known_beforehand() {
    let only = |paths: &[(&str, Option<&str>)]| {
        let owned = |(phase, handler): &(&str, Option<&str>)| ((*phase).to_owned(), handler.map(str::to_owned));
        OutputReads::Only(paths.iter().map(owned).collect())
    };
    for (expression, data, run, item, outputs) in [
        ("data.x", true, false, false, only(&[])),
        ("run.id ~ item.x", false, true, true, only(&[])),
        ("index", false, false, true, only(&[])),
        ("outputs.a.B.c + outputs['d-e']['F'][0]", false, false, false, only(&[("a", Some("B")), ("d-e", Some("F"))])),
        ("outputs.a", false, false, false, only(&[("a", None)])),
        ("outputs[data.phase].X", true, false, false, OutputReads::All),
        ("outputs | attr('a')", false, false, false, OutputReads::All),
        ("'outputs.a' ~ {'data': 1}['data'] ~ [1] | map(attribute='run')", false, false, false, only(&[])),
    ] {
        let reads = Expression::parse(expression).unwrap().reads();
        assert_eq!((reads.data, reads.run, reads.item), (data, run, item), "{expression}");
        assert_eq!(reads.outputs, outputs, "{expression}");
    }
    let template = Template::parse(json!({ "a": "{{ outputs.a.B }}", "b": ["{{ item }} {{ outputs.c }}"] })).unwrap();
    let reads = template.reads().and(Expression::parse("data").unwrap().reads());
    assert!(reads.data && reads.item && !reads.run && !reads.outputs.is_none());
    assert!(
        reads.outputs.includes("a", "B") && reads.outputs.includes("c", "any") && !reads.outputs.includes("a", "C")
    );
}

#[test]
fn a_million_items_is_the_limit() {
    let list = |length: usize| {
        let data = Payload::from(Value::from(vec![1; length]));
        let scope = Scope::new(&data, json!({}), json!({}));
        Expression::parse("data").unwrap().evaluate(&scope)
    };
    assert_eq!(list(MAX_LIST_ITEMS).unwrap().as_array().unwrap().len(), MAX_LIST_ITEMS);
    assert!(list(MAX_LIST_ITEMS + 1).unwrap_err().to_string().contains("more than 1000000 items"));
}

#[test]
fn data_that_cannot_be_read_is_an_error_only_for_those_who_read_it() {
    let deep = Payload::from_json("[".repeat(200) + &"]".repeat(200)).unwrap();
    let scope = Scope::new(&deep, json!({}), json!({ "id": 1 }));
    assert_eq!(Expression::parse("run.id").unwrap().evaluate(&scope).unwrap(), json!(1));
    let error = Expression::parse("data").unwrap().evaluate(&scope).unwrap_err().to_string();
    assert!(error.contains("recursion limit"), "{error}");
}

#[test]
fn compiled_expressions_cross_threads() {
    fn check<T: Clone + PartialEq + std::fmt::Debug + Send + Sync + 'static>() {}
    check::<Expression>();
    check::<Template>();
    assert_eq!(Expression::parse("data").unwrap(), Expression::parse("data").unwrap());
    assert_ne!(Expression::parse("data").unwrap(), Expression::parse("data ").unwrap());
}
