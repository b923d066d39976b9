//! The search example: handlers that search and download real pages, and a site on this machine for them to work on.
//!
//! In reading order: [`handlers`] are the four handlers, which [`worker`] registers; [`crawl`] finds the pages of a
//! site, [`web`] fetches one, [`page`] reads it, [`files`] keeps it; [`site`] is the site.

pub mod crawl;
pub mod files;
pub mod handlers;
pub mod page;
pub mod site;
pub mod web;

use std::path::PathBuf;

use phasework_sdk::Worker;

use crate::handlers::{Shop, error_emailer, google_searcher, job_finisher, page_downloader};
use crate::web::Web;

/// The folder that downloaded pages are kept in.
pub const PAGES_DIR: &str = "SEARCH_PAGES_DIR";

/// The folder that e-mails are put into.
pub const OUTBOX_DIR: &str = "SEARCH_OUTBOX_DIR";

/// Has `worker` host all handlers of the example, set up from the environment ([`PAGES_DIR`], [`OUTBOX_DIR`]).
///
/// # Panics
/// When TLS cannot be set up.
pub fn worker(worker: Worker) -> Worker {
    let folder = |name| std::env::var_os(name).filter(|path| !path.is_empty()).map(PathBuf::from);
    let web = Web::new().expect("TLS with the provider that is compiled in");
    worker_with(worker, &Shop { web, pages: folder(PAGES_DIR), outbox: folder(OUTBOX_DIR) })
}

/// Has `worker` host all handlers of the example.
pub fn worker_with(worker: Worker, shop: &Shop) -> Worker {
    let (searching, downloading, emailing) = (shop.clone(), shop.clone(), shop.clone());
    worker
        .handler("GoogleSearcher", "1.0.0", move |input, ctx| google_searcher(input, ctx, searching.clone()))
        .handler("PageDownloader", "1.2.0", move |input, ctx| page_downloader(input, ctx, downloading.clone()))
        .concurrency(50)
        .handler("JobFinisher", "1.0.0", job_finisher)
        .handler("ErrorEmailer", "1.0.0", move |input, ctx| error_emailer(input, ctx, emailing.clone()))
}
