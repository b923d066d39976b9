//! The gateways of a world's engines, each on a socket of its own, and the way to them for workers: whichever engines
//! there are at the time.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use phasework_broker::SharedBroker;
use phasework_broker::gateway::{Exchange, Http, NoAnswer, Request, Response};
use phasework_engine::api::{GatewayConfig, gateway_router, serve};
use phasework_workflows::id::SystemIds;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// Every gateway that there ever was, by its place.
#[derive(Clone, Debug, Default)]
pub(crate) struct Doors(Arc<Mutex<Vec<Option<Arc<Http>>>>>);

/// The gateway of an engine.
#[derive(Debug)]
pub(crate) struct Door {
    doors: Doors,
    place: usize,
    broker: SharedBroker,
    over: CancellationToken,
}

impl Doors {
    /// Opens the gateway of one more engine, on a connection of its own to the broker.
    pub(crate) fn open(&self, broker: &SharedBroker) -> Door {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        listener.set_nonblocking(true).expect("a socket that does not block");
        let address: SocketAddr = listener.local_addr().expect("an address");
        let http = Http::new(&format!("http://{address}"), None, Duration::from_secs(5)).expect("an HTTP address");
        let listener = TcpListener::from_std(listener).expect("a socket for the runtime");
        let router = gateway_router(Arc::clone(broker), Arc::new(SystemIds), GatewayConfig::default());
        let over = CancellationToken::new();
        tokio::spawn(serve(listener, router, over.clone()));
        let mut places = self.lock();
        places.push(Some(Arc::new(http)));
        Door { doors: self.clone(), place: places.len() - 1, broker: Arc::clone(broker), over }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Option<Arc<Http>>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Door {
    /// Closes it, as the end of its engine does: what its sessions held goes to others.
    pub(crate) async fn close(self) {
        self.doors.lock()[self.place] = None;
        self.over.cancel();
        self.broker.close().await;
    }
}

#[async_trait]
impl Exchange for Doors {
    fn servers(&self) -> usize {
        self.lock().len().max(1)
    }

    async fn exchange(&self, server: usize, request: Request) -> Result<Response, NoAnswer> {
        let http = self.lock().get(server).cloned().flatten();
        match http {
            Some(http) => http.exchange(0, request).await,
            None => Err(NoAnswer::NobodyThere("this engine has ended".into())),
        }
    }
}
