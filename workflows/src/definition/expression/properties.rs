//! Properties of expressions, on expressions put together at random.

use std::collections::BTreeSet;

use minijinja::{Environment, UndefinedBehavior};
use proptest::prelude::{ProptestConfig, Strategy, any, prop, prop_assert, prop_assert_eq, prop_oneof, proptest};
use serde_json::{Value, json};

use super::{Expression, Scope, Template};
use crate::Payload;

fn scope() -> Scope {
    let data = json!({ "n": 3, "f": 0.5, "s": "text", "l": [1, 2], "m": { "in": 4 }, "t": true });
    Scope::new(&Payload::from(data), json!({ "a": { "B": 7 } }), json!({ "id": "r" }))
}

/// An expression that is well formed, though it may not evaluate.
fn expression() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        "[0-9]{1,3}",
        "[0-9]\\.[0-9]",
        fixed("'x'"),
        fixed("data.n"),
        fixed("data.f"),
        fixed("data.s"),
        fixed("data['l']"),
        fixed("data.m.in"),
        fixed("outputs.a.B"),
        fixed("run.id"),
        fixed("data.t"),
        fixed("data.no"),
    ];
    leaf.prop_recursive(5, 40, 3, |inner| {
        let operator = prop::sample::select(vec![
            "+", "-", "*", "/", "//", "%", "**", "~", "==", "<", ">=", "and", "or", "in", "not in", "|join(", "if",
        ]);
        prop_oneof![
            (inner.clone(), operator, inner.clone()).prop_map(|(a, operator, b)| match operator {
                "|join(" => format!("{a}|join({b})"),
                "if" => format!("{a} if {b} else {a}"),
                _ => format!("{a} {operator} {b}"),
            }),
            inner.clone().prop_map(|a| format!("({a})")),
            inner.clone().prop_map(|a| format!("-{a}")),
            inner.clone().prop_map(|a| format!("not {a}")),
            inner.clone().prop_map(|a| format!("{a}|length")),
            inner.clone().prop_map(|a| format!("{a} is odd")),
            inner.clone().prop_map(|a| format!("{a}[0]")),
            inner.clone().prop_map(|a| format!("{a}|default(1)|list")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("[{a}, {b}]")),
            (inner.clone(), inner).prop_map(|(a, b)| format!("{{'k': {a}, 'l': {b}}}")),
        ]
    })
}

fn fixed(text: &'static str) -> impl Strategy<Value = String> + Clone {
    prop::strategy::Just(text.to_owned())
}

/// Words of the language in any order.
fn jumble() -> impl Strategy<Value = String> {
    let word = prop::sample::select(vec![
        "data", "outputs", ".", "[", "]", "(", ")", "{", "}", "'a-b'", "\"x\"", "'", "|", "is", "not", "in", "if",
        "else", "and", "*", "**", "~", "+", "-", "1", "1.5", "1.e5", ".5", "0x1F", "1_0", ",", ":", "=", "==", "map",
        "range", "é", "\n", "\\", "{{", "}}", "{%", "@", " ",
    ]);
    prop::collection::vec((word, any::<bool>()), 0..30).prop_map(|words| {
        let spaced = words.into_iter().map(|(word, space)| if space { format!("{word} ") } else { word.to_owned() });
        spaced.collect()
    })
}

fn plain() -> Environment<'static> {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_guards_change_no_meaning(source in expression()) {
        let Ok(ours) = Expression::parse(&source) else {
            return Ok(()); // beyond a limit
        };
        let environment = plain();
        let theirs = environment.compile_expression(&source).and_then(|theirs| theirs.eval(scope().root()));
        match (ours.evaluate(&scope()), theirs) {
            (Ok(ours), Ok(theirs)) => {
                // Within a text, minijinja writes True where JSON has true.
                let theirs = serde_json::to_string(&theirs).unwrap();
                prop_assert_eq!(ours.to_string().to_lowercase(), theirs.to_lowercase());
            }
            (Ok(ours), Err(theirs)) => prop_assert!(false, "{} gives {}, not {}", source, ours, theirs),
            (Err(_), _) => {}
        }
    }

    #[test]
    fn what_is_read_is_what_minijinja_reads(source in expression()) {
        let Ok(ours) = Expression::parse(&source) else { return Ok(()) };
        let roots: BTreeSet<String> = ours.paths().iter().map(|read| read.root.clone()).collect();
        let theirs = plain().compile_expression(&source).unwrap().undeclared_variables(false);
        prop_assert_eq!(roots, theirs.into_iter().collect::<BTreeSet<_>>());
    }

    #[test]
    fn nothing_makes_it_panic(source in jumble(), wild in any::<String>()) {
        for source in [&source, &wild] {
            if let Err(error) = Expression::parse(source).and_then(|parsed| parsed.evaluate(&scope())) {
                prop_assert!(!error.to_string().is_empty());
            }
            for text in [source.clone(), format!("{{{{ {source} }}}}"), format!("a {{{{{source}}}}} b")] {
                if let Err(error) = Template::parse(Value::from(text)).and_then(|parsed| parsed.render(&scope())) {
                    prop_assert!(!error.to_string().is_empty());
                }
            }
        }
    }

    #[test]
    fn values_come_back_as_they_went_in(number in any::<u64>(), signed in any::<i64>(), float in any::<f64>(), text in any::<String>()) {
        let float = serde_json::Number::from_f64(float).map_or(Value::Null, Value::Number);
        let value = json!({ "u": number, "i": [signed], "f": { "f": float }, "t": text, &text: null });
        let payload = Payload::from(value.clone());
        let scope = Scope::new(&payload, json!({}), value.clone()).with_item(0, value);
        for path in ["data", "run", "item"] {
            let back = Expression::parse(path).unwrap().evaluate(&scope).unwrap();
            prop_assert_eq!(back.to_string(), payload.as_json());
        }
    }
}
