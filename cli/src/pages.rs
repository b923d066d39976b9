//! Long lists, a page after the other, up to as many items as are wanted. Shows nothing.

use serde_json::Value;

use crate::failure::Failure;
use crate::http::{Api, Ask};
use crate::routes::Route;

/// How many items are asked for at once.
const PAGE: usize = 200;

/// How the next page is asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Turn {
    /// With the `next` of the page before, as this parameter.
    Next(&'static str),
    /// As [`Turn::Next`], but the first page as behind this one.
    From(&'static str, u64),
    /// With how many items to pass over.
    Skip(usize),
}

/// A list, as far as it was wanted.
#[derive(Debug)]
pub(crate) struct Gathered {
    /// The items.
    pub(crate) items: Vec<Value>,
    /// Where the list goes on: the `next` of the last page, or how many to pass over. Nothing at its end.
    pub(crate) next: Value,
    /// What the last page said.
    pub(crate) last: Value,
}

/// Gathers the items that stand under `field` of each page.
pub(crate) async fn gather(
    api: &Api,
    (route, names): (&Route, &[&str]),
    field: &str,
    query: &[(&str, String)],
    turn: Turn,
    limit: usize,
) -> Result<Gathered, Failure> {
    let mut items: Vec<Value> = Vec::new();
    let mut next = Value::Null;
    loop {
        // Where the server does not say whether there is more, one more than is wanted tells.
        let spare = usize::from(matches!(turn, Turn::Skip(_)));
        let asked = (limit - items.len()).saturating_add(spare).min(PAGE);
        let mut query = query.to_vec();
        query.push(("limit", asked.to_string()));
        match (turn, &next) {
            (Turn::Skip(first), _) => query.push(("skip", (first + items.len()).to_string())),
            (Turn::Next(_), Value::Null) => {}
            (Turn::From(name, first), Value::Null) => query.push((name, first.to_string())),
            (Turn::Next(name) | Turn::From(name, _), Value::String(next)) => query.push((name, next.clone())),
            (Turn::Next(name) | Turn::From(name, _), next) => query.push((name, next.to_string())),
        }
        let page: Value = api.get(route, names, Ask { query, ..Ask::default() }).await?;
        let got = page.get(field).and_then(Value::as_array).cloned().unwrap_or_default();
        let count = got.len();
        items.extend(got);
        next = match turn {
            Turn::Next(_) | Turn::From(..) => page.get("next").cloned().unwrap_or_default(),
            Turn::Skip(first) if items.len() > limit => (first + limit).into(),
            Turn::Skip(_) => Value::Null,
        };
        let is_enough = match turn {
            Turn::Next(_) | Turn::From(..) => next.is_null() || count == 0 || items.len() >= limit,
            Turn::Skip(_) => count < asked || items.len() > limit,
        };
        if is_enough {
            items.truncate(limit);
            return Ok(Gathered { items, next, last: page });
        }
    }
}
