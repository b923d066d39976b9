//! The gateways of simulated coordinators, and the way of simulated workers to them: both ends as they are, but for the
//! socket. On the way requests and answers are lost, and requests are made twice.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use axum::Router;
use axum::body::{Body, to_bytes};
use phasework_broker::SharedBroker;
use phasework_broker::gateway::{Exchange, Gateway, GatewayOptions, Method, NoAnswer, Request, Response};
use phasework_engine::api::{GatewayConfig, gateway_router};
use phasework_sdk::CancellationToken;
use phasework_workflows::id::SharedIds;
use tokio::time::{Duration, sleep};
use tower::ServiceExt as _;

use super::broker::SimBroker;
use super::fault::Fault;
use super::hub::Hub;
use super::process::Process;

/// The gateway of each coordinator, by its place.
#[derive(Debug)]
pub(super) struct Gateways(Mutex<Vec<Option<Opened>>>);

/// A gateway, and the coordinator that it ends with.
type Opened = (Arc<Process>, Router);

impl Gateways {
    pub(super) fn new(coordinators: usize) -> Arc<Self> {
        Arc::new(Self(Mutex::new((0..coordinators).map(|_| None).collect())))
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Option<Opened>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A coordinator has started.
    pub(super) fn open(&self, process: &Arc<Process>, broker: &SimBroker, ids: SharedIds) {
        let router = gateway_router(Arc::new(broker.clone()), ids, GatewayConfig::default());
        self.lock()[process.place] = Some((Arc::clone(process), router));
    }

    /// A coordinator is gone, and its sessions with it.
    pub(super) fn close(&self, process: &Arc<Process>) {
        let closed = self.lock()[process.place].take_if(|(other, _)| Arc::ptr_eq(other, process));
        drop(closed);
    }

    fn find(&self, place: usize) -> Option<Opened> {
        self.lock().get(place).cloned().flatten()
    }
}

/// The way of one worker.
#[derive(Clone)]
pub(super) struct Way {
    pub(super) hub: Arc<Hub>,
    pub(super) process: Arc<Process>,
    pub(super) gateways: Arc<Gateways>,
    pub(super) seed: u64,
}

impl fmt::Debug for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the way of {}", self.process.name)
    }
}

impl Way {
    /// The broker through a gateway, once one is there; none when the worker is told to stop before.
    pub(super) async fn connect(self, stop: &CancellationToken) -> Option<SharedBroker> {
        loop {
            let options = GatewayOptions { seed: self.seed, ..GatewayOptions::new("") };
            let connected = tokio::select! {
                biased;
                () = stop.cancelled() => return None,
                connected = Gateway::over(Arc::new(self.clone()), options) => connected,
            };
            if let Ok(gateway) = connected {
                return Some(Arc::new(gateway));
            }
            sleep(Duration::from_secs(1)).await;
        }
    }
}

#[async_trait]
impl Exchange for Way {
    fn servers(&self) -> usize {
        self.gateways.lock().len()
    }

    async fn exchange(&self, server: usize, request: Request) -> Result<Response, NoAnswer> {
        let Self { hub, process, gateways, .. } = self;
        let lost = |what: &str| NoAnswer::Lost(format!("{what} was lost, as the simulation has it"));
        hub.before_call(process).await;
        if hub.faults.strikes(Fault::RequestLost) {
            return Err(lost("the request"));
        }
        let nobody = || NoAnswer::NobodyThere("there is no such coordinator now".into());
        let (coordinator, router) = gateways.find(server).ok_or_else(nobody)?;
        if hub.faults.strikes(Fault::RequestTwice) {
            ask(&coordinator, &router, request.clone()).await?;
        }
        let answer = ask(&coordinator, &router, request).await;
        if hub.faults.strikes(Fault::AnswerLost) {
            return Err(lost("the answer"));
        }
        hub.after_call(process, answer.is_ok()).await;
        answer
    }
}

/// Asks a coordinator, which may stand still, or die over it.
async fn ask(coordinator: &Process, router: &Router, request: Request) -> Result<Response, NoAnswer> {
    let lost = |why: String| NoAnswer::Lost(why);
    let method = match request.method {
        Method::Get => "GET",
        Method::Post => "POST",
        Method::Put => "PUT",
        Method::Delete => "DELETE",
    };
    let asked = axum::http::Request::builder().method(method).uri(&request.path).body(Body::from(request.body));
    let asked = asked.map_err(|error| lost(error.to_string()))?;
    let answered = async {
        coordinator.gate().await;
        let answer = router.clone().oneshot(asked).await.map_err(|never| match never {})?;
        coordinator.gate().await;
        let status = answer.status().as_u16();
        let body = to_bytes(answer.into_body(), usize::MAX).await.map_err(|error| lost(error.to_string()))?;
        Ok(Response { status, body })
    };
    tokio::select! {
        biased;
        () = coordinator.dead() => Err(lost(format!("{} died", coordinator.name))),
        answer = answered => answer,
    }
}
