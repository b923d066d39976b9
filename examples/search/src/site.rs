//! A small website on this machine, for the example's handlers to search and download when there is no internet: a
//! field guide to sea birds. It is as unreliable as real ones are, but always in the same way: see [`SLOW`],
//! [`UNSTEADY`] and [`MISSING`]. It never listens on anything but 127.0.0.1.

mod html;
mod pages;

use std::future::IntoFuture as _;
use std::io;
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, Uri, header};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use tokio_util::sync::CancellationToken;

use self::pages::Page;

/// Pages that take their time, and how many milliseconds.
pub const SLOW: [(&str, u64); 5] = [
    ("/places/svalbard", 300),
    ("/places/faroe-islands", 450),
    ("/birds/king-penguin", 600),
    ("/notes/migration", 900),
    ("/birds/great-skua", 1500),
];

/// A page that answers `503 Service Unavailable` before it works, and how often.
pub const UNSTEADY: (&str, u32) = ("/places/bass-rock", 2);

/// A page that the sitemap lists and others link to, and that is not there: the bird is extinct.
pub const MISSING: &str = "/birds/great-auk";

/// How long requests under way may take to finish once the site stops.
const GRACE: Duration = Duration::from_secs(3);

/// A running site. It stops when this value is dropped, after the requests that are under way.
#[derive(Debug)]
pub struct Site {
    url: String,
    stop: CancellationToken,
    server: Option<JoinHandle<()>>,
}

impl Site {
    /// Starts a site on a free port, on a thread of its own; every site counts its refusals anew.
    pub fn start() -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        listener.set_nonblocking(true)?;
        let url = format!("http://{}", listener.local_addr()?);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let shared = Arc::new(Shared { url: url.clone(), pages: pages::all(), refusals_left: UNSTEADY.1.into() });
        let stop = CancellationToken::new();
        let stopping = stop.clone();
        let server = std::thread::Builder::new().name(String::from("demo-site")).spawn(move || {
            if let Err(error) = runtime.block_on(serve(listener, shared, stopping)) {
                tracing::error!(%error, "the demo site has stopped");
            }
        })?;
        Ok(Self { url, stop, server: Some(server) })
    }

    /// The address of its front page, without a slash at the end.
    pub fn url(&self) -> &str {
        &self.url
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        self.stop.cancel();
        if self.server.take().is_some_and(|server| server.join().is_err()) {
            tracing::error!("the demo site's thread has panicked");
        }
    }
}

/// What every request may look at.
struct Shared {
    url: String,
    pages: Vec<Page>,
    refusals_left: AtomicU32,
}

async fn serve(listener: TcpListener, shared: Arc<Shared>, stop: CancellationToken) -> io::Result<()> {
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let router = Router::new()
        .route("/", get(front_page))
        .route("/robots.txt", get(robots))
        .route("/sitemap.xml", get(sitemap))
        .fallback(get(page))
        .with_state(shared);
    let serving = axum::serve(listener, router).with_graceful_shutdown(stop.clone().cancelled_owned());
    let out_of_patience = async {
        stop.cancelled().await;
        tokio::time::sleep(GRACE).await;
    };
    tokio::select! {
        biased;
        result = serving.into_future() => result,
        () = out_of_patience => Ok(()),
    }
}

async fn front_page(State(shared): State<Arc<Shared>>) -> Html<String> {
    Html(html::front_page(&shared.pages))
}

async fn page(State(shared): State<Arc<Shared>>, uri: Uri) -> Response {
    let path = uri.path();
    let Some(page) = shared.pages.iter().find(|page| page.path == path) else {
        return (StatusCode::NOT_FOUND, Html(html::notice("Not found", "There is no such page."))).into_response();
    };
    if path == UNSTEADY.0 && shared.refuses() {
        let notice = html::notice("Out for a moment", "Too many gannets. Please try again.");
        return (StatusCode::SERVICE_UNAVAILABLE, Html(notice)).into_response();
    }
    if let Some((_, delay_ms)) = SLOW.iter().find(|(slow, _)| *slow == path) {
        // Being slow is what the page is for; nothing is waited for.
        tokio::time::sleep(Duration::from_millis(*delay_ms)).await;
    }
    Html(html::page(page)).into_response()
}

async fn robots(State(shared): State<Arc<Shared>>) -> String {
    format!("User-agent: *\nAllow: /\n\nSitemap: {}/sitemap.xml\n", shared.url)
}

async fn sitemap(State(shared): State<Arc<Shared>>) -> impl IntoResponse {
    let paths = shared.pages.iter().map(|page| page.path.as_str()).chain([MISSING]);
    ([(header::CONTENT_TYPE, "application/xml")], html::sitemap(&shared.url, paths))
}

impl Shared {
    /// Whether this request is one of the first, that are refused.
    fn refuses(&self) -> bool {
        let one_less = |left: u32| left.checked_sub(1);
        self.refusals_left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_less).is_ok()
    }
}

#[cfg(test)]
mod tests;
