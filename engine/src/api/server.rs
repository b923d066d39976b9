//! Serves the API on a socket until it is told to stop: open requests are answered, long polls at once. Who says nothing,
//! says it too slowly, or does not read what is answered, does not keep a connection for long, and there are only so many.

use std::io::{self, ErrorKind};
use std::sync::Arc;
use std::time::Duration;

use axum::{Extension, Router};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_io_timeout::TimeoutWriter;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt as _;

use super::wait::Stopping;

/// How long open requests get after the server was told to stop.
const GRACE: Duration = Duration::from_secs(10);

/// How many connections are served at once; further ones wait. The sessions of all workers have three each.
const MAX_CONNECTIONS: usize = 4096;

/// How long the head of a request may take, from when the connection is there or the request before is answered. Longer
/// than our own clients keep connections that they do not use.
const HEAD_WITHIN: Duration = Duration::from_secs(60);

/// How long no byte of an answer may be taken.
const TAKEN_WITHIN: Duration = Duration::from_secs(60);

/// How long to wait before connections are accepted again, when the system has no room for one more.
const NO_ROOM: Duration = Duration::from_millis(500);

/// Serves `router` on `listener` until `shutdown`. New connections are then refused, waits answered at once, and
/// requests under way get ten seconds.
///
/// # Errors
/// When the socket is none that can be served. Whatever befalls one connection, the others are served.
pub async fn serve(listener: TcpListener, router: Router, shutdown: CancellationToken) -> io::Result<()> {
    tracing::debug!(at = %listener.local_addr()?, "serving");
    serve_at_most(MAX_CONNECTIONS, listener, router, shutdown).await;
    Ok(())
}

async fn serve_at_most(most: usize, listener: TcpListener, router: Router, shutdown: CancellationToken) {
    let router = router.layer(Extension(Stopping(shutdown.clone())));
    let (places, connections, cut_off) = (Arc::new(Semaphore::new(most)), TaskTracker::new(), CancellationToken::new());
    loop {
        let accepted = tokio::select! {
            biased;
            () = shutdown.cancelled() => break,
            accepted = accept(&listener, &places) => accepted,
        };
        let Some((place, stream)) = accepted else { continue };
        let served = serve_one(stream, router.clone(), shutdown.clone(), place);
        let cut_off = cut_off.clone();
        connections.spawn(async move { cut_off.run_until_cancelled(served).await });
    }
    drop((listener, router));
    connections.close();
    if tokio::time::timeout(GRACE, connections.wait()).await.is_err() {
        tracing::warn!("requests that did not end in time were cut off");
        cut_off.cancel();
        connections.wait().await;
    }
}

/// The next connection, once there is a place for it; none when it was lost, or the system has no room.
async fn accept(listener: &TcpListener, places: &Arc<Semaphore>) -> Option<(OwnedSemaphorePermit, TcpStream)> {
    let place = Arc::clone(places).acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, _)) => Some((place, stream)),
        // It was given up before it could be served.
        Err(error) if matches!(error.kind(), ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset) => None,
        Err(error) => {
            tracing::warn!(%error, "no connection can be accepted now");
            // The connection stays in the system's line, so that asking at once would fail again at once.
            tokio::time::sleep(NO_ROOM).await;
            None
        }
    }
}

/// Serves one connection, which keeps its place for as long.
async fn serve_one(stream: TcpStream, router: Router, shutdown: CancellationToken, _place: OwnedSemaphorePermit) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "a connection keeps small answers back");
    }
    let service = service_fn(move |request: hyper::Request<Incoming>| router.clone().oneshot(request));
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEAD_WITHIN);
    let mut stream = TimeoutWriter::new(stream);
    stream.set_timeout(Some(TAKEN_WITHIN));
    let mut connection = std::pin::pin!(builder.serve_connection(TokioIo::new(Box::pin(stream)), service));
    let served = tokio::select! {
        biased;
        served = &mut connection => served,
        () = shutdown.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = served {
        tracing::debug!(%error, "a connection ended early");
    }
}

#[cfg(test)]
mod tests {
    use axum::routing::get;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::time::Instant;

    use super::*;

    const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n";

    /// A server with this many places; where it is, and what stops it.
    async fn start(most: usize) -> (std::net::SocketAddr, CancellationToken) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, shutdown) = (listener.local_addr().unwrap(), CancellationToken::new());
        let router = Router::new().route("/", get(async || "here"));
        let router = router.route("/much", get(async || "much".repeat(8 << 20)));
        tokio::spawn(serve_at_most(most, listener, router, shutdown.clone()));
        (address, shutdown)
    }

    /// Asks, and waits for all of the answer.
    async fn ask(connection: &mut TcpStream) {
        connection.write_all(REQUEST).await.unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"here") {
            assert!(connection.read_buf(&mut answer).await.unwrap() > 0, "{answer:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_sends_too_slowly_or_nothing_is_hung_up_on() {
        let (address, _shutdown) = start(10).await;
        for (said, asks) in [(&b""[..], false), (b"GET / HTTP/1.1\r\nX-Slow: ", false), (b"", true)] {
            let mut connection = TcpStream::connect(address).await.unwrap();
            if asks {
                ask(&mut connection).await;
            }
            connection.write_all(said).await.unwrap();
            let begun = Instant::now();
            // Only the clock of the tests is waited for: nothing else could end this.
            let mut rest = Vec::new();
            connection.read_to_end(&mut rest).await.unwrap();
            let took = begun.elapsed();
            assert!(took >= HEAD_WITHIN - Duration::from_secs(1) && took <= HEAD_WITHIN * 2, "{took:?}");
        }
    }

    #[tokio::test]
    async fn connections_beyond_the_bound_wait_for_a_place() {
        let (address, shutdown) = start(2).await;
        let mut connections = Vec::new();
        for _ in 0..2 {
            connections.push(TcpStream::connect(address).await.unwrap());
        }
        for connection in &mut connections {
            ask(connection).await;
        }
        let mut third = TcpStream::connect(address).await.unwrap();
        {
            let mut asking = std::pin::pin!(ask(&mut third));
            // The first two are served as before, and the third is not, however often the others are.
            for _ in 0..20 {
                tokio::select! {
                    biased;
                    () = &mut asking => panic!("there was no place for it"),
                    () = ask(&mut connections[0]) => {}
                }
            }
            connections.remove(0);
            asking.await;
        }
        shutdown.cancel();
    }

    #[tokio::test(start_paused = true)]
    async fn who_does_not_read_is_hung_up_on() {
        let (address, _shutdown) = start(1).await;
        let mut deaf = TcpStream::connect(address).await.unwrap();
        deaf.write_all(b"GET /much HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        let begun = Instant::now();
        // There is a place for one.
        ask(&mut TcpStream::connect(address).await.unwrap()).await;
        let took = begun.elapsed();
        assert!(took >= TAKEN_WITHIN - Duration::from_secs(1) && took <= TAKEN_WITHIN * 2, "{took:?}");
        drop(deaf);
    }
}
