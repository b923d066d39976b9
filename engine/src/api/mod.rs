//! The HTTP API: JSON in and out, one file per resource, one error envelope. It decides nothing: every request becomes
//! a call of [`Engine`], every answer a view. What callers send as data and get as output passes through untouched.
//!
//! In reading order: [`router`] puts the resources together; `extract` reads requests, `error` and `view` shape
//! answers; `auth` and `tokens` say who may ask; `observe` counts and traces. `gateway` lets workers reach the engine's broker.

mod audit;
mod auth;
mod coordinators;
mod dead;
mod error;
mod extract;
mod failures;
mod gateway;
mod health;
mod history;
mod observe;
mod orders;
mod payloads;
mod runs;
mod server;
mod tokens;
mod view;
mod wait;
mod waiting;
mod workers;
mod workflows;

use std::any::Any;
use std::fmt;

use axum::Router;
use axum::extract::OriginalUri;
use axum::http::Method;
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse, Response};
use metrics_exporter_prometheus::PrometheusHandle;
use tower_http::catch_panic::CatchPanicLayer;

pub use auth::{ExposureError, check_exposure};
pub use extract::MAX_BODY_BYTES;
pub use gateway::{GatewayConfig, Policy, gateway_router};
pub use server::serve;
pub use tokens::{MAX_TOKEN_NAME_BYTES, MAX_TOKENS, Tokens, TokensError};
pub use wait::MAX_WAIT;

use crate::engine::Engine;
use error::ApiError;
use gateway::Gateway;

/// What the API needs besides the engine.
#[derive(Clone, Default)]
pub struct ApiConfig {
    /// What callers have to show; without any everybody who can connect may do everything.
    pub tokens: Tokens,
    /// What `/metrics` shows; without it there is no such page.
    pub metrics: Option<PrometheusHandle>,
}

impl fmt::Debug for ApiConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let metrics = self.metrics.is_some();
        f.debug_struct("ApiConfig").field("tokens", &self.tokens).field("metrics", &metrics).finish()
    }
}

/// What every request handler is given.
#[derive(Clone, Debug)]
struct Api {
    engine: Engine,
    config: ApiConfig,
    gateway: Gateway,
}

/// The paths that are served, for whoever asks for another one.
const PATHS: [&str; 12] = [
    "/",
    "/v1/runs",
    "/v1/workflows",
    "/v1/workflows/validate",
    "/v1/workers",
    "/v1/coordinators",
    "/v1/dead",
    "/v1/gateway/sessions",
    "/v1/gateway/publish",
    "/health/live",
    "/health/ready",
    "/metrics",
];

/// All of the API, as a service, with a worker gateway for whoever may use the API.
pub fn router(engine: Engine, config: ApiConfig) -> Router {
    router_with(engine, config, GatewayConfig::default())
}

/// All of the API, as a service.
pub fn router_with(engine: Engine, config: ApiConfig, gateway: GatewayConfig) -> Router {
    let routes = Router::new()
        .merge(runs::routes())
        .merge(audit::routes())
        .merge(history::routes())
        .merge(orders::routes())
        .merge(payloads::routes())
        .merge(workflows::routes())
        .merge(workers::routes())
        .merge(coordinators::routes())
        .merge(dead::routes())
        .merge(gateway::routes())
        .merge(health::routes());
    let gateway = Gateway::of(&engine, gateway);
    around(routes, Api { engine, config, gateway })
}

/// What every route has around it, the outermost last.
fn around(routes: Router<Api>, api: Api) -> Router {
    routes
        .fallback(unknown_path)
        .method_not_allowed_fallback(wrong_method)
        .layer(from_fn_with_state(api.clone(), auth::check))
        .layer(CatchPanicLayer::custom(panicked))
        .layer(from_fn_with_state(api.clone(), observe::observe))
        .with_state(api)
}

async fn unknown_path(OriginalUri(uri): OriginalUri) -> ApiError {
    let path = uri.path();
    let near = phasework_workflows::definition::nearest(path, PATHS);
    let hint = near.map(|near| format!("; did you mean `{near}`?")).unwrap_or_default();
    ApiError::not_found(format!("there is nothing at `{path}`{hint}"))
}

async fn wrong_method(method: Method, OriginalUri(uri): OriginalUri) -> ApiError {
    ApiError::method_not_allowed(format!("`{}` cannot be asked with {method}", uri.path()))
}

/// A defect must not take the connection down, nor show its insides.
#[expect(clippy::needless_pass_by_value, reason = "the shape that the layer asks for")]
fn panicked(panic: Box<dyn Any + Send>) -> Response {
    let text = panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    tracing::error!(panic = text.unwrap_or("of an unknown kind"), "a request ended in a panic");
    ApiError::internal("this is a defect of phasework; its log says more".into()).into_response()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use axum::routing::get;
    use phasework_broker::memory::MemoryBroker;
    use phasework_store::memory::MemoryStore;
    use phasework_workflows::id::SystemIds;
    use phasework_workflows::run::apply;
    use phasework_workflows::time::SystemClock;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::{TcpListener, TcpStream};
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::engine::Parts;
    use crate::{EngineConfig, start};

    #[tokio::test]
    async fn a_panic_is_an_answer_that_shows_nothing() {
        let parts = Parts {
            store: Arc::new(MemoryStore::new()),
            broker: Arc::new(MemoryBroker::new()),
            clock: Arc::new(SystemClock),
            ids: Arc::new(SystemIds),
            decide: apply,
            config: Arc::new(EngineConfig::new("c1")),
        };
        let engine = start(parts).unwrap();
        let panics = get(async || -> &'static str { panic!("the secret of the house") });
        let gateway = Gateway::of(engine.engine(), GatewayConfig::default());
        let api = Api { engine: engine.engine().clone(), config: ApiConfig::default(), gateway };
        let router = around(Router::new().route("/panics", panics), api);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shutdown = CancellationToken::new();
        let served = tokio::spawn(serve(listener, router, shutdown.clone()));

        let mut connection = TcpStream::connect(address).await.unwrap();
        let request = format!("GET /panics HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
        connection.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        connection.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 500 "), "{answer}");
        assert!(answer.contains(r#"{"error":{"code":"internal","message":"this is a defect of phasework"#), "{answer}");
        assert!(!answer.contains("secret"), "{answer}");
        shutdown.cancel();
        served.await.unwrap().unwrap();
        engine.stop().await;
    }
}
