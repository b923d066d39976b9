//! The worker gateway: the engine's broker over HTTP, for workers that have no other way to it. `docs/wire-format.md` says
//! what travels; `phasework_broker::gateway` is the other end.
//!
//! In reading order: `session` is what a session holds, `sessions` are those that are open, `feeder` stands between one
//! subscription and the broker, `policy` says what may be done, `body` reads requests, `publish` is what workers publish.
//! Here are the other requests.

mod body;
mod feeder;
mod policy;
mod publish;
mod session;
mod sessions;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{FromRef, Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post, put};
use axum::{Extension, Json as Answer, Router};
use phasework_broker::gateway::address;
use phasework_broker::gateway::wire::{
    Delivered, Deliveries, Depth, Next, Open, Opened, Settle, Stopped, Subscribe, Subscribed,
};
use phasework_broker::{Address, BrokerError, SharedBroker, Subscription};
use phasework_workflows::id::SharedIds;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use self::body::Budget;
pub use self::policy::Policy;
use self::session::{Name, NeverGiven};
use self::sessions::{Asked, Session, Sessions};
use super::Api;
use super::error::ApiError;
use super::extract::{Json, MaybeJson};
use super::wait::Stopping;
use crate::engine::Engine;
use crate::watch;

/// How long a session lives without a request.
const SESSION_TTL: Duration = Duration::from_secs(30);

/// The longest that one poll waits: well within the life of a session.
const MAX_POLL: Duration = Duration::from_secs(20);

/// How often a poll that waits looks whether the broker is still there.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// How many sessions one coordinator keeps.
const MAX_SESSIONS: usize = 1000;

/// How many subscriptions a session has.
const MAX_SUBSCRIPTIONS: usize = 64;

/// How many deliveries all subscriptions of a session hold unsettled, whatever they asked for. That is what bounds a
/// session whose reader takes nothing: so many may be on their way from the broker.
const MAX_PREFETCH: u16 = 4096;

/// How many bytes a session holds that its reader does not have yet; then it asks the broker's consumers for nothing more.
const MAX_BUFFERED_BYTES: usize = 16 << 20;

/// How many deliveries go into one answer, and about how many bytes.
const MAX_DELIVERIES: usize = 1000;
const MAX_ANSWER_BYTES: usize = 4 << 20;

/// How many bytes of requests to publish are under way at once.
const MAX_PUBLISHING_BYTES: usize = 64 << 20;

/// The longest name of a session or a subscription.
const MAX_NAME_BYTES: usize = 64;

/// The settings of the gateway.
#[derive(Clone, Default)]
pub struct GatewayConfig {
    /// What workers may show in place of the API's token. It is good for nothing but the gateway.
    pub token: Option<Arc<str>>,
    /// What may be done.
    pub policy: Policy,
}

impl fmt::Debug for GatewayConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let has_token = self.token.is_some();
        f.debug_struct("GatewayConfig").field("has_token", &has_token).field("policy", &self.policy).finish()
    }
}

/// The gateway. Cheap to clone; its sessions end with the last clone.
#[derive(Clone, Debug)]
pub(super) struct Gateway {
    pub(super) config: GatewayConfig,
    broker: SharedBroker,
    ids: SharedIds,
    sessions: Arc<Sessions>,
    budget: Budget,
    /// How many coordinator queues there are, where somebody knows: nobody makes others by publishing to them.
    coordinator_queues: Option<watch::Receiver<u16>>,
}

impl FromRef<Api> for Gateway {
    fn from_ref(api: &Api) -> Self {
        api.gateway.clone()
    }
}

/// A gateway to a broker by itself, with no engine around it and no token asked for. For tests.
pub fn gateway_router(broker: SharedBroker, ids: SharedIds, config: GatewayConfig) -> Router {
    routes().with_state(Gateway::new(broker, ids, config))
}

impl Gateway {
    pub(super) fn new(broker: SharedBroker, ids: SharedIds, config: GatewayConfig) -> Self {
        let budget = Budget(Arc::new(Semaphore::new(MAX_PUBLISHING_BYTES)));
        Self { config, broker, ids, sessions: Arc::default(), budget, coordinator_queues: None }
    }

    /// The gateway of an engine.
    pub(super) fn of(engine: &Engine, config: GatewayConfig) -> Self {
        let (broker, ids) = (Arc::clone(&engine.parts.broker), Arc::clone(&engine.parts.ids));
        Self { coordinator_queues: Some(engine.timeline.queues.clone()), ..Self::new(broker, ids, config) }
    }

    /// A session of which something is heard.
    fn find(&self, id: &str) -> Result<Arc<Session>, ApiError> {
        let session = self.sessions.find(id).ok_or_else(|| no_session("it has ended, or never was"))?;
        match session.ended() {
            Some(why) => Err(no_session(&why)),
            None => {
                session.heard();
                Ok(session)
            }
        }
    }
}

fn no_session(why: &str) -> ApiError {
    ApiError::no_session(format!("there is no such session: {why}. Open another one"))
}

pub(super) fn routes<S>() -> Router<S>
where
    S: Clone + Send + Sync + 'static,
    Gateway: FromRef<S>,
{
    Router::new()
        .route("/v1/gateway/sessions", post(open))
        .route("/v1/gateway/sessions/{session}", axum::routing::delete(close))
        .route("/v1/gateway/sessions/{session}/subscriptions/{name}", put(subscribe).delete(unsubscribe))
        .route("/v1/gateway/sessions/{session}/subscriptions/{name}/stop", post(stop))
        .route("/v1/gateway/sessions/{session}/next", post(next))
        .route("/v1/gateway/sessions/{session}/settle", post(settle))
        .route("/v1/gateway/publish", post(publish::publish))
        .route("/v1/gateway/queues/{queue}", get(depth).delete(delete))
}

type MaybeStopping = Option<Extension<Stopping>>;

async fn open(
    State(gateway): State<Gateway>,
    stopping: MaybeStopping,
    MaybeJson(Open { name }): MaybeJson<Open>,
) -> Result<(StatusCode, Answer<Opened>), ApiError> {
    let broker = &gateway.broker;
    let stopping = stopping.map(|Extension(Stopping(stopping))| stopping);
    let is_over = stopping.as_ref().is_some_and(CancellationToken::is_cancelled);
    if is_over || matches!(broker.health(), Err(BrokerError::Closed)) {
        return Err(stops());
    }
    let name = checked_name(&name.unwrap_or_else(|| "worker".to_owned()))?;
    let id: Arc<str> = gateway.ids.uuid().to_string().into();
    let session = gateway.sessions.open(id, name, MAX_SESSIONS, stopping).ok_or_else(|| {
        ApiError::unavailable(format!(
            "{MAX_SESSIONS} sessions are open, and no more are kept; try another coordinator"
        ))
    })?;
    let opened = Opened {
        session: session.id.to_string(),
        ttl_ms: SESSION_TTL.as_millis() as u64,
        max_wait_ms: MAX_POLL.as_millis() as u64,
        prefix: prefix(broker),
    };
    Ok((StatusCode::CREATED, Answer(opened)))
}

fn stops() -> ApiError {
    ApiError::unavailable("this coordinator stops; try another one, or this one again in a while".into())
}

/// What the broker's own names of queues begin with.
fn prefix(broker: &SharedBroker) -> String {
    let name = broker.name_of(&Address::Presence);
    name.strip_suffix(&address::text(&Address::Presence)).unwrap_or_default().to_owned()
}

fn checked_name(name: &str) -> Result<String, ApiError> {
    if name.is_empty() || name.len() > MAX_NAME_BYTES || name.chars().any(char::is_control) {
        return Err(ApiError::invalid(format!("a name has 1 to {MAX_NAME_BYTES} bytes and no control characters")));
    }
    Ok(name.to_owned())
}

async fn close(State(gateway): State<Gateway>, Path(id): Path<String>) -> Result<StatusCode, ApiError> {
    let session = gateway.find(&id)?;
    session.close("it was closed").await;
    gateway.sessions.forget(&session);
    Ok(StatusCode::NO_CONTENT)
}

async fn subscribe(
    State(gateway): State<Gateway>,
    Path((id, name)): Path<(String, String)>,
    Json(Subscribe { from, prefetch }): Json<Subscribe>,
) -> Result<Answer<Subscribed>, ApiError> {
    let session = gateway.find(&id)?;
    let name: Name = checked_name(&name)?.into();
    let from = address::read(&from).map_err(ApiError::invalid)?;
    if prefetch == 0 {
        return Err(ApiError::invalid("a prefetch of 0: nothing would ever be delivered".into()));
    }
    if !gateway.config.policy.may_subscribe(&from) {
        return Err(ApiError::forbidden(format!("workers do not read from `{}`", address::text(&from))));
    }
    let broker = &gateway.broker;
    let queue = broker.name_of(&from);
    let mut subscription = Subscription { from, prefetch };
    match session.ask_for(&name, &subscription, MAX_SUBSCRIPTIONS).await {
        Asked::There(prefetch) => subscription.prefetch = prefetch,
        Asked::Other => {
            return Err(ApiError::refused(format!("there is a subscription `{name}` already, to something else")));
        }
        Asked::TooMany => {
            return Err(ApiError::too_many(format!("a session has at most {MAX_SUBSCRIPTIONS} subscriptions")));
        }
        Asked::ToBeMade(making) => {
            subscription.prefetch = making.prefetch();
            let consumer = broker.subscribe(subscription.clone()).await.map_err(broker_refused)?;
            making.done(subscription.clone(), consumer);
            if let Some(why) = session.ended() {
                return Err(no_session(&why));
            }
        }
    }
    Ok(Answer(Subscribed { queue, prefetch: subscription.prefetch }))
}

#[expect(clippy::needless_pass_by_value, reason = "the shape that `map_err` asks for")]
fn broker_refused(error: BrokerError) -> ApiError {
    match error {
        BrokerError::Refused(_) => ApiError::refused(error.to_string()),
        BrokerError::Unavailable(_) => ApiError::unavailable(error.to_string()),
        BrokerError::Closed => stops(),
    }
}

async fn stop(
    State(gateway): State<Gateway>,
    Path((id, name)): Path<(String, String)>,
) -> Result<Answer<Stopped>, ApiError> {
    let session = gateway.find(&id)?;
    match session.stop(&name.as_str().into()).await {
        Some(last) => Ok(Answer(Stopped { last })),
        None => match session.ended() {
            Some(why) => Err(no_session(&why)),
            None => Err(ApiError::not_found(format!("the session has no subscription `{name}`"))),
        },
    }
}

async fn unsubscribe(
    State(gateway): State<Gateway>,
    Path((id, name)): Path<(String, String)>,
) -> Result<StatusCode, ApiError> {
    gateway.find(&id)?.unsubscribe(&name.as_str().into()).await;
    Ok(StatusCode::NO_CONTENT)
}

async fn next(
    State(gateway): State<Gateway>,
    Path(id): Path<String>,
    MaybeJson(next): MaybeJson<Next>,
) -> Result<Response, ApiError> {
    let session = gateway.find(&id)?;
    let Next { after, wait_ms, max, broker_away, ack, release } = next;
    session.settle(&ack, &release);
    let poll = session.poll(after).map_err(|NeverGiven { last }| {
        ApiError::invalid(format!("`after` is {after}, and the last delivery of this session was {last}"))
    })?;
    let wait = wait_ms.map_or(MAX_POLL, Duration::from_millis).min(MAX_POLL);
    let max = max.unwrap_or(MAX_DELIVERIES).clamp(1, MAX_DELIVERIES);
    let given = tokio::select! {
        biased;
        given = poll.wait(wait, max, MAX_ANSWER_BYTES) => given.map_err(|why| no_session(&why))?,
        () = turns(&gateway.broker, broker_away) => Vec::new(),
    };
    poll.answered();
    let deliveries =
        given.iter().map(|given| Delivered::of(given.n, &given.subscription.name, &given.delivery)).collect();
    let broker = why_away(&gateway.broker).map(Into::into);
    let body = serde_json::to_vec(&Deliveries { deliveries, broker });
    let body = body.map_err(|error| ApiError::internal(format!("deliveries cannot be written: {error}")))?;
    Ok(([(header::CONTENT_TYPE, "application/json")], body).into_response())
}

/// Returns once the broker is away though its reader takes it for well, or the other way round.
async fn turns(broker: &SharedBroker, is_away: Option<bool>) {
    let Some(is_away) = is_away else { return std::future::pending().await };
    while why_away(broker).is_some() == is_away {
        // Brokers can be asked how they are, and do not tell.
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Why the broker cannot be used now, if it is so.
fn why_away(broker: &SharedBroker) -> Option<String> {
    match broker.health() {
        Ok(()) => None,
        Err(BrokerError::Unavailable(why) | BrokerError::Refused(why)) => Some(why),
        Err(BrokerError::Closed) => Some(BrokerError::Closed.to_string()),
    }
}

async fn settle(
    State(gateway): State<Gateway>,
    Path(id): Path<String>,
    MaybeJson(Settle { ack, release }): MaybeJson<Settle>,
) -> Result<StatusCode, ApiError> {
    gateway.find(&id)?.settle(&ack, &release);
    Ok(StatusCode::NO_CONTENT)
}

fn named_queue(gateway: &Gateway, queue: &str) -> Result<Address, ApiError> {
    if !gateway.config.policy.may_see_queues() {
        return Err(ApiError::forbidden("workers do not look after queues".into()));
    }
    address::read(queue).map_err(ApiError::invalid)
}

async fn depth(State(gateway): State<Gateway>, Path(queue): Path<String>) -> Result<Answer<Depth>, ApiError> {
    let queue = named_queue(&gateway, &queue)?;
    let messages = gateway.broker.depth(&queue).await.map_err(broker_refused)?;
    Ok(Answer(Depth { messages }))
}

async fn delete(State(gateway): State<Gateway>, Path(queue): Path<String>) -> Result<StatusCode, ApiError> {
    let queue = named_queue(&gateway, &queue)?;
    gateway.broker.delete(&queue).await.map_err(broker_refused)?;
    Ok(StatusCode::NO_CONTENT)
}
