//! Handlers as the worker sees them: from JSON to JSON. Typed functions are wrapped here; nothing is run here.

use std::future::Future;
use std::sync::Arc;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use phasework_workflows::Payload;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::context::Context;
use crate::error::HandlerError;
use crate::list::{JobList, Pages};

/// A handler without its types.
pub(crate) type HandlerFn =
    Arc<dyn Fn(Payload, Context) -> BoxFuture<'static, Result<Payload, HandlerError>> + Send + Sync>;

/// What lists the jobs of a handler, without its types.
pub(crate) type ListFn =
    Arc<dyn Fn(Payload, Arc<Pages>, Context) -> BoxFuture<'static, Result<(), HandlerError>> + Send + Sync>;

/// Wraps a typed function that lists jobs: reads what it gets, writes what it gives.
pub(crate) fn untyped_list<I, J, F, Fut>(enumerate: F) -> ListFn
where
    I: DeserializeOwned,
    J: Serialize + 'static,
    F: Fn(I, JobList<J>, Context) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<(), HandlerError>> + Send + 'static,
{
    Arc::new(move |input, pages, context| {
        let running = read_input(input.as_json())
            .map(|input| enumerate(input, JobList::of(pages), context))
            .map_err(|error| HandlerError::input(format!("what it lists from: {error}")));
        async move { running?.await }.boxed()
    })
}

/// Wraps a typed handler: reads its input, writes its output.
pub(crate) fn untyped<I, O, F, Fut>(handler: F) -> HandlerFn
where
    I: DeserializeOwned,
    O: Serialize,
    F: Fn(I, Context) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<O, HandlerError>> + Send + 'static,
{
    Arc::new(move |input, context| {
        let running = read_input(input.as_json())
            .map(|input| handler(input, context))
            .map_err(|error| HandlerError::input(format!("the input: {error}")));
        async move {
            let output = running?.await?;
            Payload::of(&output).map_err(|error| HandlerError::output(format!("cannot be written as JSON: {error}")))
        }
        .boxed()
    })
}

/// Reads `json` as a `T`. The error says where: the path, then line and column.
pub(crate) fn read_input<T: DeserializeOwned>(json: &str) -> Result<T, String> {
    serde_json::from_str(json).or_else(|_| {
        // The path costs something to keep, so it is only asked for when there is an error to tell.
        serde_path_to_error::deserialize(&mut serde_json::Deserializer::from_str(json))
            .map_err(|error| error.to_string())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, serde::Deserialize)]
    struct Pages {
        #[expect(dead_code, reason = "only read")]
        pages: Vec<Page>,
    }

    #[derive(Debug, serde::Deserialize)]
    struct Page {
        #[expect(dead_code, reason = "only read")]
        url: String,
    }

    #[test]
    fn a_bad_input_says_where() {
        for (json, expected) in [
            (r#"{"pages":[{"url":"a"},{"url":7}]}"#, ["pages[1].url", "column"]),
            (r#"{"pages":[{}]}"#, ["pages[0]", "missing field `url`"]),
            ("null", ["invalid type: null", "Pages"]),
        ] {
            let error = read_input::<Pages>(json).unwrap_err();
            assert!(expected.iter().all(|part| error.contains(part)), "{json} gave {error}");
        }
    }
}
