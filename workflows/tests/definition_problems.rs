//! What `parse` says about definitions that are wrong: every row is a definition and what is reported of it.

use phasework_workflows::definition::{Severity, parse};

/// Puts `phase` (members of an object) into an otherwise sound workflow, after a phase that gives outputs.
fn with_phase(phase: &str) -> String {
    format!(
        r#"{{ "workflow": "w", "phases": {{
  "first-one": {{ "is_initial": true, "handlers": ["Lister", "Other:One"], "transitions_to": "here" }},
  "here": {{ {phase} }},
  "end": {{ "is_final": true }} }} }}"#
    )
}

/// Puts `handler` (members of an object) into the phase `here`.
fn with_handler(handler: &str) -> String {
    with_phase(&format!(r#""transitions_to": "end", "handlers": [ {{ "name": "H", {handler} }} ]"#))
}

/// Puts `expression` into the phase `here`, beginning in column 29 of line 4.
fn with_for_each(expression: &str) -> String {
    with_handler(&format!("\n                \"for_each\": \"{expression}\""))
}

fn lines(text: &str) -> Vec<String> {
    match parse(text) {
        Ok(document) => document.warnings.iter().map(ToString::to_string).collect(),
        Err(problems) => problems.iter().map(ToString::to_string).collect(),
    }
}

/// Checks that exactly the `expected` things are reported, each a part of its line.
#[track_caller]
fn check(text: &str, expected: &[&str]) {
    let found = lines(text);
    let fits = found.len() == expected.len() && found.iter().zip(expected).all(|(found, part)| found.contains(part));
    assert!(fits, "expected {expected:#?}\nfound {found:#?}\nin {}", &text[..text.len().min(2000)]);
}

#[test]
fn syntax_errors_say_where_and_what_was_expected() {
    for (text, expected) in [
        ("", "line 1, column 1: the document is empty"),
        ("  \n ", "the document is empty"),
        ("{", "this is not JSON: the text ends within an object"),
        (
            "{\n  \"a\": 1,\n}",
            "line 3, column 1: this is not JSON: expected another element after the comma (JSON allows",
        ),
        ("{ \"a\": 1 \"b\": 2 }", "line 1, column 10: this is not JSON: expected `,` or `}`"),
        ("{ \"é\" 1 }", "column 7: this is not JSON: expected `:`"),
        ("{ a: 1 }", "column 3: this is not JSON: expected a key in double quotes"),
        (
            "{ \"a\": 'x' }",
            "column 8: this is not JSON: expected a value: an object, a list, a text in quotes, a number",
        ),
        ("{ \"a\": [1, 2 }", "expected `,` or `]`"),
        ("{ \"a\": \"x }", "the text ends within a string"),
        ("{} {}", "column 4: this is not JSON: the document ends here"),
        ("{ // c\n}", "column 3: this is not JSON: expected a key in double quotes (JSON has no comments"),
        ("{ \"a\": \"\u{1}\" }", "control character"),
        ("{ \"a\": 01 }", "invalid number"),
        ("{ \"a\": True }", "JSON writes null, true and false in small letters"),
        ("{ \"a\": \"\\ud800\" }", "unexpected end of hex escape"),
        ("{ \"a\": 1e999 }", "number out of range"),
        ("\u{feff}{}", "byte order mark"),
        ("[]", "a definition is a JSON object; this is a list"),
        ("3", "a definition is a JSON object; this is the number 3"),
    ] {
        check(text, &[expected]);
    }
}

#[test]
fn size_and_depth_are_limited_before_anything_recurses() {
    let deep = format!("{{\n \"workflow\": {}{}}}", "[".repeat(10_000), "]".repeat(10_000));
    check(&deep, &["line 2, column 77: lists and objects are nested more than 64 deep here"]);
    check(&"[".repeat(1_000_000), &["line 1, column 65: lists and objects are nested"]);
    check(&"{\"a\":".repeat(100_000), &["line 1, column 321: lists and objects are nested"]);
    check(&" ".repeat(1_048_577), &["a definition has at most 1048576 bytes; this one has 1048577"]);
    let in_text = with_phase(&format!(r#""transitions_to": "end", "handlers": ["{}"]"#, "[".repeat(1000)));
    check(&in_text, &["at most 64 characters"]);
}

#[test]
fn everything_is_reported_at_once_in_the_order_of_the_text() {
    check(
        r#"{
  "workflow": "a search",
  "queues": "per-phase",
  "retries": 3,
  "phases": {
    "one": { "is_initial": "yes", "transitions_to": "tow", "handlers": "H" },
    "two": { "is_final": true, "is_initial": true, "on_error_transitions_to": "one",
             "handlers": [ { "name": "H", "max_in_flight": 0, "versoin": "1" }, { "version": "~> x" }, 3 ] }
  }
}"#,
        &[
            "line 2, column 15: a workflow name has letters, digits, `_`, `-` and `:` only; `a search` has ' '",
            "line 3, column 13: `queues` must be \"per_handler\" or \"per_phase\" (did you mean `per_phase`?) [at /queues]",
            "line 4, column 3: a workflow has no key `retries`",
            "line 6, column 28: `is_initial` must be true or false; this is the text \"yes\" [at /phases/one/is_initial]",
            "line 6, column 53: there is no phase `tow` (did you mean `two`?) [at /phases/one/transitions_to]",
            "line 6, column 72: `handlers` must be a list; this is the text \"H\"",
            "line 7, column 52: a phase has no key `on_error_transitions_to` (did you mean `on_error_transition_to`?)",
            "line 8, column 60: `max_in_flight` must be a whole number from 1 to 1000000; this is the number 0",
            "line 8, column 60: warning: `max_in_flight` changes nothing",
            "line 8, column 63: a handler has no key `versoin` (did you mean `version`?)",
            "line 8, column 81: `name` is missing: the handler's name",
            "line 8, column 94: `~> x` is not a version requirement",
            "line 8, column 104: `handler` must be a name or an object; this is the number 3",
        ],
    );
}

#[test]
fn the_frame_of_a_workflow_is_checked() {
    let sound = r#""phases": { "a": { "is_initial": true, "is_final": true } }"#;
    for (text, expected) in [
        ("{}".to_owned(), vec!["`workflow` is missing", "`phases` is missing"]),
        (format!("{{ {sound} }}"), vec!["`workflow` is missing"]),
        (format!(r#"{{ "workflow": "a", "name": "a", {sound} }}"#), vec!["given twice"]),
        (format!(r#"{{ "workflow": 3, {sound} }}"#), vec!["`workflow` must be a text in quotes; this is the number 3"]),
        (format!(r#"{{ "workflow": "", {sound} }}"#), vec!["a workflow name must not be empty"]),
        (format!(r#"{{ "workflow": "a", "description": null, {sound} }}"#), vec!["`description` must be a text"]),
        (format!(r#"{{ "workflow": "a", "workflow": "b", {sound} }}"#), vec!["the key `workflow` is here twice"]),
        (format!(r#"{{ "workflow": "a", "notify": [], {sound} }}"#), vec!["`notify` is not supported yet"]),
        (format!(r#"{{ "workflow": "a", "$schema": "x", {sound} }}"#), vec![]),
        (r#"{ "workflow": "a", "phases": 3 }"#.to_owned(), vec!["`phases` must be an object by name, or a list"]),
        (r#"{ "workflow": "a", "phases": {} }"#.to_owned(), vec!["`phases` is empty"]),
        (r#"{ "workflow": "a", "phases": [] }"#.to_owned(), vec!["`phases` is empty"]),
        (r#"{ "workflow": "a", "phases": [ "x" ] }"#.to_owned(), vec!["`phases` is empty", "must be an object"]),
        (
            r#"{ "name": "a", "phases": [ { "name": "x", "is_initial": true, "transitions_to": "x" }, {} ] }"#
                .to_owned(),
            vec!["no phase is final", "`name` is missing: the phase's name"],
        ),
        (
            r#"{ "name": "a", "phases": [ { "name": "x", "is_initial": true, "is_final": true },
                                         { "name": "x", "is_final": true } ] }"#
                .to_owned(),
            vec!["line 2, column 52: the phase `x` is here twice; the first is on line 1", "no run can come to `x`"],
        ),
        (
            r#"{ "workflow": "a", "phases": { "x": { "is_initial": true, "name": "x", "is_final": true } } }"#
                .to_owned(),
            vec!["a phase has no key `name`"],
        ),
    ] {
        check(&text, &expected);
    }
}

#[test]
fn transitions_have_to_lead_somewhere() {
    for (phases, expected) in [
        (r#""a": { "is_final": true }"#, vec!["no phase is initial"]),
        (
            r#""a": { "is_initial": true, "transitions_to": "b" }, "b": { "transitions_to": "a" }"#,
            vec!["no phase is final"],
        ),
        (
            r#""a": { "is_initial": true, "is_final": true }, "b": { "is_initial": true, "is_final": true }"#,
            vec!["a second initial phase; `a` is one already"],
        ),
        (
            r#""a": { "is_initial": true }, "b": { "is_final": true }"#,
            vec!["`a` does not say where it leads (add `transitions_to`"],
        ),
        (
            r#""a": { "is_initial": true, "is_final": true, "transitions_to": "b" }, "b": { "is_final": true }"#,
            vec!["`a` is final and has `transitions_to` (a run ends in a final phase"],
        ),
        (
            r#""a": { "is_initial": true, "transitions_to": "c" }, "b": { "transitions_to": "c" }, "c": { "is_final": true }"#,
            vec!["no run can come to `b`"],
        ),
        (
            r#""a": { "is_initial": true, "transitions_to": "b", "handlers": ["H"], "on_error_transition_to": "c" },
               "b": { "transitions_to": "b" }, "c": { "is_final": true }"#,
            vec!["a run in `b` could never end"],
        ),
        (
            r#""a": { "is_initial": true, "transitions_to": "b", "on_error_transition_to": "c" },
               "b": { "is_final": true }, "c": { "is_final": true }"#,
            vec!["`a` has no handlers, so nothing in it can fail", "no run can come to `c`"],
        ),
        (
            r#""a": { "is_initial": true, "transitions_to": "a", "handlers": ["H"], "on_error_transition_to": "c" },
               "c": { "is_final": true, "handlers": ["I"], "on_error_transition_to": "d" }, "d": { "is_final": true }"#,
            vec![],
        ),
        (
            r#""a": { "is_initial": true, "transitions_to": [ { "to": "b" } ] }, "b": { "is_final": true }"#,
            vec!["a choice of targets is not supported yet in this version"],
        ),
        (
            r#""a": { "is_initial": true, "transitions_to": 3 }, "b": { "is_final": true }"#,
            vec!["`transitions_to` must be a text in quotes; this is the number 3"],
        ),
        (
            r#""a b": { "is_initial": true, "is_final": true }"#,
            vec!["a phase name has letters, digits, `_`, `-` and `:` only; `a b` has ' '"],
        ),
        (
            r#""a": { "is_initial": true, "is_final": true, "handlers": ["H", { "name": "H" }] }"#,
            vec!["the handler `H` is here twice"],
        ),
        (
            r#""a": { "is_initial": true, "is_final": true, "timeout": { "after": "1h" }, "on": {}, "depends_on": [] }"#,
            vec!["`timeout` is not supported yet", "`on` is not supported yet", "`depends_on` is not supported yet"],
        ),
    ] {
        check(&format!(r#"{{ "workflow": "w", "phases": {{ {phases} }} }}"#), &expected);
    }
}

#[test]
fn handlers_are_checked() {
    for (handler, expected) in [
        (r#""enumerate": 1"#, "`enumerate` must be true or false; this is the number 1"),
        (
            r#""enumerate": true, "for_each": 3"#,
            "`enumerate` beside `for_each`: a handler has one list (a list of jobs comes from `for_each`, or from",
        ),
        (r#""enumerate": true, "input": "{{ item }}""#, "there is no `item` here"),
        (r#""enumerate": false, "max_in_flight": 5"#, "warning: `max_in_flight` changes nothing"),
        (r#""workflow": "child""#, "`workflow` is not supported yet in this version"),
        (r#""version": 1.2"#, "`version` must be a text in quotes; this is a number (write \"version\": \"1.2\")"),
        (r#""version": "one""#, "`one` is not a version requirement"),
        (r#""for_each": -1"#, "`for_each` must be a whole number from 0 to 100000000; this is the number -1"),
        (r#""for_each": 100000001"#, "from 0 to 100000000; this is the number 100000001"),
        (r#""for_each": 1.5"#, "this is the number 1.5"),
        (
            r#""for_each": [1]"#,
            "`for_each` must be an expression that gives a list, or a number of jobs; this is a list",
        ),
        (r#""for_each": 1, "max_in_flight": 10000000"#, "from 1 to 1000000"),
        (r#""for_each": 1, "max_in_flight": "5""#, "this is the text \"5\""),
        (r#""max_in_flight": 5"#, "warning: `max_in_flight` changes nothing: this handler has one job"),
        (r#""tolerate_failures": "50%""#, "warning: this tolerates nothing"),
        (r#""tolerate_failures": "101%""#, "from \"0%\" to \"100%\"; this is the text \"101%\""),
        (r#""tolerate_failures": "+5%""#, "from \"0%\" to \"100%\""),
        (r#""tolerate_failures": "2.5%""#, "a whole percentage"),
        (r#""tolerate_failures": -1"#, "a number of jobs"),
        (r#""timeout": "31d""#, "`timeout` must be between 1ms and 720h; this is the text \"31d\""),
        (r#""start_timeout": 0"#, "`start_timeout` must be between 1ms and 720h"),
        (r#""start_timeout": "soon""#, "`start_timeout` must be a length of time such as \"500ms\""),
        (r#""timeout": "2 days""#, "`timeout` must be a length of time such as \"500ms\""),
        (r#""timeout": 0"#, "between 1ms"),
        (r#""timeout": true"#, "this is true"),
        (r#""queue": "a.b""#, "a queue name has letters"),
        (r#""queue": 5"#, "`queue` must be a text in quotes"),
        (r#""retry": 3"#, "`retry` must be an object; this is the number 3"),
        (r#""retry": { "max_attempts": 0 }"#, "from 1 to 1000"),
        (r#""retry": { "attempts": 3 }"#, "a retry has no key `attempts`"),
        (r#""retry": { "backoff": "exponental" }"#, "(did you mean `exponential`?)"),
        (r#""retry": { "delay": "8d" }"#, "`delay` must be between 0s and 168h"),
        (r#""retry": { "delay": "2s", "max_delay": "1s" }"#, "`max_delay` is shorter than `delay`, which is 2s"),
        (r#""retry": { "jitter": 101 }"#, "a whole percentage from 0 to 100"),
        (r#""input": "{{ data.x""#, "this `{{` has no `}}`"),
        (r#""input": { "a": ["{{ data. }}"] }"#, "[at /phases/here/handlers/0/input/a/0]"),
        (r#""input": "{% if x %}""#, "`{% %}` is not supported"),
        (r#""input": "{{ item }}""#, "there is no `item` here (`input` has it, when the handler has `for_each`)"),
    ] {
        check(&with_handler(handler), &[expected]);
    }
}

#[test]
fn a_template_is_looked_at_to_its_end() {
    check(
        &with_handler(r#""input": { "a": "{{ x }} {{ 1 + }}", "b": ["{{ y }}", "{{", 1e1] }"#),
        &[
            "column 87: there is no variable `x`",
            "column 97: this is no expression: unexpected end of input",
            "there is no variable `y`",
            "this `{{` has no `}}`",
        ],
    );
}

#[test]
fn what_is_sound_is_taken_without_a_word() {
    for handler in [
        r#""for_each": 0"#,
        r#""for_each": 100000000, "max_in_flight": 1000000, "tolerate_failures": 5"#,
        r#""for_each": "outputs['first-one'].Lister.urls", "input": { "u": "{{ item.url }}", "n": "{{ index }}" }"#,
        r#""for_each": "outputs['first-one']['Other:One']", "tolerate_failures": "100%""#,
        r#""for_each": "range(data.count)""#,
        r#""input": null"#,
        r#""input": { "all": "{{ outputs }}", "run": "{{ run.id }}", "{{ data.key }}": 1 }"#,
        r#""tolerate_failures": 1"#,
        r#""timeout": "25m", "queue": "gpu", "version": ">= 1, < 3""#,
        r#""timeout": 1"#,
        r#""retry": {}"#,
        r#""retry": { "max_attempts": 1, "backoff": "fixed", "delay": "10m", "jitter": false }"#,
        r#""retry": { "delay": 0, "max_delay": 0, "jitter": "50%" }"#,
        r#""retry": { "max_delay": "100ms" }"#,
    ] {
        check(&with_handler(handler), &[]);
    }
}

#[test]
fn expressions_are_checked_where_they_stand() {
    for (expression, expected) in [
        ("", vec!["line 4, column 29: the expression is empty"]),
        ("data.urls |", vec!["this is no expression: unexpected end of input, expected identifier"]),
        ("data.urls | frist", vec!["column 42: there is no filter `frist` (did you mean `first`?)"]),
        ("data.x is oddd", vec!["column 40: there is no test `oddd` (did you mean `odd`?)"]),
        ("now()", vec!["column 30: there is no function `now`"]),
        ("data.urls.get('x')", vec!["values have no methods, so `.get(…)` cannot be called"]),
        ("{{ data.urls }}", vec!["(an expression is written without `{{ }}`)"]),
        ("data.a && data.b", vec!["(the words are `and`, `or` and `not`)"]),
        ("dta.urls", vec!["column 30: there is no variable `dta` (did you mean `data`?)"]),
        ("urls", vec!["the run's own data is `data.urls`"]),
        ("end", vec!["there is no variable `end` (the outputs of a phase are `outputs.end`)"]),
        ("item.x", vec!["there is no `item` here"]),
        ("run.ids", vec!["column 34: a run has no fact `ids` (did you mean `id`?)"]),
        ("run.data", vec!["(there are `id`, `workflow`, `revision`, `key`, `phase`, `entry`, `created_at`)"]),
        ("outputs.here.H", vec!["column 38: `here` is this phase"]),
        ("outputs.end", vec!["column 38: `end` cannot have run before: no way leads from there to here"]),
        ("outputs['first-noe'].Lister", vec!["there is no phase `first-noe` (did you mean `first-one`?)"]),
        ("outputs['first-one'].Listr", vec!["the phase `first-one` has no handler `Listr` (did you mean `Lister`?)"]),
        (
            "outputs.first-one.Lister",
            vec![
                "column 38: there is no phase `first` (a name with `-` or `:` in it is written in brackets: `['first-one']`)",
            ],
        ),
        ("outputs['first-one'].Other:One", vec!["this is no expression"]),
        ("outputs.nowhere[0]", vec!["there is no phase `nowhere`"]),
        (r"data['a\u0062'] + dta", vec!["column 48: there is no variable `dta`"]),
        (r"'\ud83d\ude00é\n' ~ dta", vec!["column 50: there is no variable `dta`"]),
        ("dta ~ dta", vec!["column 30", "column 36"]),
        ("data.a + * 2", vec!["this is no expression"]),
    ] {
        check(&with_for_each(expression), &expected);
    }
}

#[test]
fn a_loop_makes_a_phase_its_own_past() {
    let text = r#"{ "workflow": "w", "phases": {
      "try": { "is_initial": true, "transitions_to": "end", "on_error_transition_to": "wait",
               "handlers": [ { "name": "H", "input": "{{ outputs.try.H | default(0) }} {{ outputs.wait.W }}" } ] },
      "wait": { "handlers": ["W"], "transitions_to": "try" },
      "end": { "is_final": true } },
      "output": "{{ outputs.try.H }}{{ outputs.wait.X }}{{ item }}" }"#;
    check(
        text,
        &[
            "column 99: warning: this may not be there: a run can come here without having finished `wait`",
            "the phase `wait` has no handler `X`",
            "there is no `item` here (only the input of a handler",
        ],
    );
}

#[test]
fn outputs_that_may_be_missing_are_warned_of() {
    let text = |cleanup: &str, output: &str| {
        format!(
            r#"{{ "workflow": "w", "output": "{output}", "phases": {{
      "one": {{ "is_initial": true, "transitions_to": "two", "on_error_transition_to": "cleanup", "handlers": ["A"] }},
      "two": {{ "transitions_to": "end", "on_error_transition_to": "cleanup",
               "handlers": [ {{ "name": "B", "input": "{{{{ outputs.one.A }}}}" }} ] }},
      "cleanup": {{ "is_final": true, "handlers": [ {{ "name": "C", "input": "{{{{ {cleanup} }}}}" }} ] }},
      "end": {{ "is_final": true, "handlers": ["D"] }} }} }}"#
        )
    };
    for (cleanup, output, expected) in [
        ("data", "{{ data }}", vec![]),
        ("outputs.one.A", "x", vec!["a run can come here without having finished `one` (give a value for that case"]),
        ("outputs.one.A | default(none)", "{{ outputs.one.A | default(none) }}", vec![]),
        ("outputs.two.B if outputs.two.B is defined else 0", "x", vec![]),
        ("outputs", "{{ outputs.end.D }}", vec!["a run can end without having finished `end`"]),
        ("outputs.one", "{{ outputs.two.B }}", vec!["a run can end without having finished `two`"]),
    ] {
        check(&text(cleanup, output), &expected);
    }
}

#[test]
fn work_stays_bounded_on_hostile_definitions() {
    let name = |n: usize| format!("{n:04}{}", "x".repeat(60));
    let phases: Vec<String> =
        (0..1000).map(|n| format!(r#""{}": {{ "transitions_to": "{}" }}"#, name(n), name(n + 5000))).collect();
    let keys: Vec<String> = (0..100_000).map(|_| r#""k":1"#.to_owned()).collect();
    let reads = "{{ outputs.no }}".repeat(1000);
    for (text, count) in [
        (format!(r#"{{ "workflow": "w", "phases": {{ {} }} }}"#, phases.join(",")), 1002),
        (
            format!(
                r#"{{ {}, "workflow": "w", "phases": {{ "a": {{ "is_initial": true, "is_final": true }} }} }}"#,
                keys.join(",")
            ),
            199_999,
        ),
        (with_handler(&format!(r#""input": "{reads}""#)), 1000),
        (with_handler(&format!(r#""input": "{}""#, "{{ 1 }}".repeat(1001))), 1),
        (with_handler(&format!(r#""input": [{}0]"#, r#""{{ 1","#.repeat(50_000))), 50_000),
    ] {
        let problems = parse(&text).unwrap_err();
        assert_eq!(problems.problems.len() + problems.omitted, count, "{}", problems.problems[0]);
    }
}

#[test]
fn numbers_in_templates_keep_every_digit_or_are_refused() {
    check(&with_handler(r#""input": [18446744073709551615, -9223372036854775808, 1.5e3]"#), &[]);
    check(&with_handler(r#""input": [18446744073709551616]"#), &["does not fit into 64 bits (write it in quotes)"]);
}

#[test]
fn problems_are_counted_beyond_a_hundred() {
    let keys: Vec<String> = (0..250).map(|n| format!("\"k{n}\": 1")).collect();
    let text = with_phase(&format!(r#""transitions_to": "end", {}"#, keys.join(",")));
    let problems = parse(&text).unwrap_err();
    assert_eq!((problems.problems.len(), problems.omitted), (100, 150));
    assert!(problems.to_string().starts_with("250 problems:\n"), "{problems}");
    assert!(problems.to_string().ends_with("and 150 more"), "{problems}");
}

#[test]
fn counts_are_limited() {
    let phases: Vec<String> = (0..1001).map(|n| format!("\"p{n}\": {{}}")).collect();
    check(&format!(r#"{{ "workflow": "w", "phases": {{ {} }} }}"#, phases.join(",")), &["at most 1000 phases"]);
    let handlers: Vec<String> = (0..101).map(|n| format!("\"h{n}\"")).collect();
    let text = with_phase(&format!(r#""transitions_to": "end", "handlers": [{}]"#, handlers.join(",")));
    check(&text, &["a phase has at most 100 handlers; this one has 101"]);
}

#[test]
fn problems_are_data_for_an_api() {
    let problems = parse(&with_handler(r#""version": "x""#)).unwrap_err();
    assert!(problems.iter().all(|problem| problem.severity == Severity::Error));
    let json = serde_json::to_value(&problems).unwrap();
    assert_eq!(
        json,
        serde_json::json!({ "problems": [ {
            "pointer": "/phases/here/handlers/0/version", "line": 3, "column": 78, "end": { "line": 3, "column": 81 },
            "message": "`x` is not a version requirement: `x` is not a version such as 1.2.3; requirements are written like `~> 1.2`, `^1.2` or `>= 1, < 3`",
            "severity": "error",
        } ] })
    );
}
