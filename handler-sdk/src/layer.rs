//! Layers: code around handlers, for what many of them need alike. They see a job as JSON, and what becomes of it; how a
//! handler is found, and what a worker reports, they cannot change.

use std::fmt;
use std::future::Future;
use std::sync::Arc;

use futures::future::BoxFuture;
use phasework_workflows::Payload;

use crate::context::Context;
use crate::error::HandlerError;
use crate::handler::HandlerFn;

/// A job on its way to its handler.
#[derive(Clone, Debug)]
pub struct Job {
    /// What it is to work on.
    pub input: Payload,
    /// What may be known of it.
    pub context: Context,
}

/// What lies behind a layer: further layers, and the handler.
#[derive(Clone)]
pub struct Next(HandlerFn);

impl Next {
    /// Has the job done. May be called again, and with another input; not at all, if the job is not to be done.
    ///
    /// # Errors
    /// As the handler has it.
    pub async fn run(&self, job: Job) -> Result<Payload, HandlerError> {
        (self.0)(job.input, job.context).await
    }
}

impl fmt::Debug for Next {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Next")
    }
}

/// A layer without its types.
#[derive(Clone)]
pub(crate) struct Layer(Arc<LayerFn>);

type LayerFn = dyn Fn(Job, Next) -> BoxFuture<'static, Result<Payload, HandlerError>> + Send + Sync;

impl Layer {
    pub(crate) fn new<F, Fut>(layer: F) -> Self
    where
        F: Fn(Job, Next) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Payload, HandlerError>> + Send + 'static,
    {
        Self(Arc::new(move |job, next| Box::pin(layer(job, next))))
    }

    /// The handler with this around it.
    fn around(self, handler: HandlerFn) -> HandlerFn {
        let next = Next(handler);
        Arc::new(move |input, context| (self.0)(Job { input, context }, next.clone()))
    }
}

/// The handler within layers, the first of them outermost. One without layers stays as it is.
pub(crate) fn within(layers: &[Layer], handler: HandlerFn) -> HandlerFn {
    layers.iter().rev().fold(handler, |handler, layer| layer.clone().around(handler))
}
