//! The example's handlers on the example's site.

#![expect(clippy::unwrap_used, reason = "all of it is tests")]

use std::sync::Arc;

use phasework_broker::memory::MemoryBroker;
use phasework_broker::{Address, Broker as _, Subscription};
use phasework_example_search::handlers::{
    Downloaded, PageToDownload, Search, Shop, error_emailer, google_searcher, job_finisher, page_downloader,
};
use phasework_example_search::site::{MISSING, Site, UNSTEADY};
use phasework_example_search::web::Web;
use phasework_example_search::worker_with;
use phasework_sdk::testing::TestContext;
use phasework_sdk::{CancellationToken, HandlerError, Worker};
use phasework_workflows::definition::{catalog, parse};
use phasework_workflows::message::{decode, presence::WorkerAnnounced};
use serde_json::json;

fn shop() -> Shop {
    Shop { web: Web::new().unwrap(), pages: None, outbox: None }
}

fn search(site: &str, query: &str, limit: usize) -> Search {
    Search { site: site.to_owned(), query: query.to_owned(), limit, email: None }
}

async fn found(site: &Site, query: &str, limit: usize) -> Vec<String> {
    let ctx = TestContext::new("GoogleSearcher").build();
    let results = google_searcher(search(site.url(), query, limit), ctx, shop()).await.unwrap();
    results.urls.iter().map(|url| url.strip_prefix(site.url()).unwrap().to_owned()).collect()
}

#[tokio::test]
async fn the_best_pages_come_first() {
    let site = Site::start().unwrap();
    let puffins = found(&site, "puffin burrow", 5).await;
    assert_eq!(puffins[0], "/birds/atlantic-puffin");
    assert_eq!(puffins.len(), 5);
    assert!(found(&site, "great auk", 20).await.contains(&MISSING.to_owned()), "known by its address alone");
    assert_eq!(found(&site, "submarine", 20).await, [""; 0]);
    assert!(found(&site, "", 100).await.len() > 40, "every page");
}

#[tokio::test]
async fn searching_says_what_is_wrong() {
    let site = Site::start().unwrap();
    let gone = site.url().to_owned();
    drop(site);
    for (address, words, retry) in [
        (gone.as_str(), "cannot fetch http://127.0.0.1", true),
        ("file:///etc/passwd", "`file:///etc/passwd` is no web address", false),
        ("nowhere", "`nowhere` is no web address", false),
    ] {
        let ctx = TestContext::new("GoogleSearcher").build();
        let error = google_searcher(search(address, "x", 1), ctx, shop()).await.unwrap_err();
        assert!(error.to_string().contains(words) && error.is_retryable() == retry, "{error}");
    }
}

async fn download(site: &Site, path: &str, shop: Shop) -> Result<Downloaded, HandlerError> {
    let ctx = TestContext::new("PageDownloader").index(4).data(&search(site.url(), "puffin", 5)).build();
    page_downloader(PageToDownload::Plain(format!("{}{path}", site.url())), ctx, shop).await
}

#[tokio::test]
async fn a_page_is_downloaded_and_kept() {
    let site = Site::start().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let shop = Shop { pages: Some(folder.path().join("pages")), ..shop() };
    let page = download(&site, "/birds/atlantic-puffin", shop).await.unwrap();
    assert!(page.title.starts_with("Atlantic Puffin") && page.matches >= 3 && page.words > 50, "{page:?}");
    let file = page.file.unwrap();
    assert_eq!(file.file_name().unwrap(), "00000000-0000-0000-0000-000000000007-4.html");
    assert_eq!(std::fs::read_to_string(&file).unwrap().len(), page.bytes);
    assert_eq!(std::fs::read_dir(file.parent().unwrap()).unwrap().count(), 1, "nothing unfinished is left");
}

#[tokio::test]
async fn servers_in_trouble_are_asked_again_and_missing_pages_are_not() {
    let site = Site::start().unwrap();
    for _ in 0..UNSTEADY.1 {
        let error = download(&site, UNSTEADY.0, shop()).await.unwrap_err();
        assert!(error.is_retryable() && error.to_string().contains("503"), "{error}");
    }
    assert!(download(&site, UNSTEADY.0, shop()).await.is_ok());
    let error = download(&site, MISSING, shop()).await.unwrap_err();
    assert!(!error.is_retryable() && error.to_string().contains("404 Not Found"), "{error}");
}

#[test]
fn an_address_comes_alone_or_in_an_object() {
    for input in [json!("http://a/"), json!({ "url": "http://a/" })] {
        let (PageToDownload::Plain(url) | PageToDownload::Object { url }) = serde_json::from_value(input).unwrap();
        assert_eq!(url, "http://a/");
    }
}

#[tokio::test]
async fn a_search_is_summed_up() {
    let page =
        |title: &str, matches| json!({ "url": title, "title": title, "bytes": 10, "words": 5, "matches": matches });
    let pages = [page("a", 1), page("b", 3), json!(null), page("c", 3), page("d", 2)];
    let input = serde_json::from_value(json!({ "pages": pages })).unwrap();
    let summary = job_finisher(input, TestContext::new("JobFinisher").build()).await.unwrap();
    let best: Vec<_> = summary.best.iter().map(|best| best.title.as_str()).collect();
    assert_eq!((summary.pages, summary.missing, summary.bytes, summary.words), (4, 1, 40, 20));
    assert_eq!(best, ["b", "c", "d"]);
}

#[tokio::test]
async fn an_email_is_put_into_the_outbox() {
    let folder = tempfile::tempdir().unwrap();
    let data = json!({ "site": "http://a/", "query": "puffin\r\nBcc: x", "email": "ada@example.com" });
    let ctx = || TestContext::new("ErrorEmailer").data(&data).build();
    let shop = Shop { outbox: Some(folder.path().to_owned()), ..shop() };
    let written = error_emailer(json!(null), ctx(), shop.clone()).await.unwrap();
    let email = std::fs::read_to_string(written.file.unwrap()).unwrap();
    let subject = "To: ada@example.com\nSubject: The search for puffin  Bcc: x has failed\n";
    assert!(email.starts_with(subject), "{email}");
    error_emailer(json!(null), ctx(), shop.clone()).await.unwrap();
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "one e-mail for a run, however often it is tried");
    assert_eq!(error_emailer(json!(null), ctx(), self::shop()).await.unwrap().file, None);
}

/// The names and versions are those that the workflow in the catalog asks for.
#[tokio::test]
async fn the_worker_hosts_what_the_workflow_needs() {
    let broker = MemoryBroker::new();
    let mut presence = broker.subscribe(Subscription { from: Address::Presence, prefetch: 9 }).await.unwrap();
    let stop = CancellationToken::new();
    let worker = worker_with(Worker::new(Arc::new(broker.connect())), &shop()).run_until(stop.clone());
    let worker = tokio::spawn(worker);
    let announced: WorkerAnnounced = decode(&presence.next(1).await.unwrap()[0].body).unwrap();
    let (_, text) = catalog().iter().find(|(name, _)| *name == "search").unwrap();
    let workflow = parse(text).unwrap().workflow;
    for wanted in workflow.phases.iter().flat_map(|phase| &phase.handlers) {
        let hosted = announced.handlers.iter().any(|h| h.name == wanted.name && wanted.version.matches(&h.version));
        assert!(hosted, "{} {}", wanted.name, wanted.version);
    }
    stop.cancel();
    worker.await.unwrap().unwrap();
}
