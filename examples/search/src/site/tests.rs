//! What the site promises to those that search and download it.

use super::*;

use std::collections::BTreeSet;
use std::time::Instant;

use scraper::{Html as Document, Selector};

fn client() -> reqwest::Client {
    // The client wants to know its TLS provider even if it never speaks TLS. Another test may have been first.
    rustls::crypto::ring::default_provider().install_default().ok();
    reqwest::Client::builder().no_proxy().build().unwrap()
}

async fn get(client: &reqwest::Client, url: String) -> (u16, String) {
    let response = client.get(url).send().await.unwrap();
    (response.status().as_u16(), response.text().await.unwrap())
}

/// The text of everything that matches, or an attribute of it.
fn select(document: &str, selector: &str, attribute: Option<&str>) -> Vec<String> {
    let document = Document::parse_document(document);
    let selector = Selector::parse(selector).unwrap();
    let found = document.select(&selector);
    match attribute {
        Some(attribute) => found.filter_map(|element| element.attr(attribute)).map(str::to_owned).collect(),
        None => found.map(|element| element.text().collect()).collect(),
    }
}

fn links(document: &str) -> Vec<String> {
    select(document, "main a", Some("href"))
}

#[test]
fn pages_are_many_and_each_is_one_of_a_kind() {
    let pages = pages::all();
    assert!(pages.len() >= 40, "{}", pages.len());
    for (what, of) in [("path", (|page| &page.path) as fn(&Page) -> &String), ("title", |page| &page.title)] {
        assert_eq!(pages.iter().map(of).collect::<BTreeSet<_>>().len(), pages.len(), "twice the same {what}");
    }
    for page in &pages {
        let html = html::page(page);
        assert_eq!(select(&html, "h1", None).concat(), page.title);
        assert!(select(&html, "title", None)[0].starts_with(&page.title));
        assert!(select(&html, "h2", None).len() >= 2, "few headings on {}", page.path);
        assert!(select(&html, "article p", None).concat().split(' ').count() > 50, "few words on {}", page.path);
        assert!(!html.contains("](") && !html.contains("\n=") && !html.contains("<p>="), "markup on {}", page.path);
    }
}

#[test]
fn words_are_on_some_pages_and_not_on_others() {
    let pages = pages::all();
    for (word, want) in [("puffin", 5..20), ("krill", 1..2), ("burrow", 3..8), ("Scotland", 2..5), ("submarine", 0..1)]
    {
        let found = pages.iter().filter(|page| html::page(page).contains(word)).count();
        assert!(want.contains(&found), "{found} pages with {word}");
    }
}

#[test]
fn every_link_leads_to_a_page_and_one_into_the_void() {
    let pages = pages::all();
    let there: BTreeSet<String> = pages.iter().map(|page| page.path.clone()).collect();
    let linked: BTreeSet<String> = pages.iter().flat_map(|page| links(&html::page(page))).collect();
    assert_eq!(linked.difference(&there).collect::<Vec<_>>(), [MISSING]);
    assert_eq!(links(&html::front_page(&pages)).into_iter().collect::<BTreeSet<_>>(), there);
    for path in SLOW.iter().map(|(path, _)| *path).chain([UNSTEADY.0]) {
        assert!(there.contains(path), "{path}");
    }
}

#[tokio::test]
async fn everything_in_the_sitemap_can_be_fetched_but_what_is_missing() {
    let site = Site::start().unwrap();
    let client = client();
    let (status, robots) = get(&client, format!("{}/robots.txt", site.url())).await;
    assert_eq!(status, 200);
    let sitemap = robots.lines().find_map(|line| line.strip_prefix("Sitemap: ")).unwrap();
    let (status, sitemap) = get(&client, sitemap.to_owned()).await;
    assert_eq!(status, 200);
    let urls = select(&sitemap, "loc", None);
    assert_eq!(urls.len(), pages::all().len() + 1);

    let mut fetching = Vec::new();
    for url in urls {
        let client = client.clone();
        fetching.push(tokio::spawn(async move { (url.clone(), get(&client, url).await) }));
    }
    for fetched in fetching {
        let (url, (status, text)) = fetched.await.unwrap();
        let path = url.strip_prefix(site.url()).unwrap();
        let exceptions = [(MISSING, 404), (UNSTEADY.0, 503)];
        let want = exceptions.iter().find(|(exception, _)| *exception == path).map_or(200, |(_, status)| *status);
        assert_eq!(status, want, "{path}");
        assert_eq!(select(&text, "h1", None).len(), 1, "{path}");
    }
}

#[tokio::test]
async fn the_unsteady_page_works_in_the_end_on_every_site_anew() {
    let client = client();
    for _ in 0..2 {
        let site = Site::start().unwrap();
        let mut statuses = Vec::new();
        for _ in 0..4 {
            statuses.push(get(&client, format!("{}{}?again", site.url(), UNSTEADY.0)).await.0);
        }
        assert_eq!(statuses, [503, 503, 200, 200]);
    }
}

#[tokio::test]
async fn slow_pages_are_slow() {
    let site = Site::start().unwrap();
    let (path, delay_ms) = SLOW[0];
    let began = Instant::now();
    assert_eq!(get(&client(), format!("{}{path}", site.url())).await.0, 200);
    assert!(began.elapsed() >= Duration::from_millis(delay_ms));
}

#[tokio::test]
async fn a_dropped_site_is_gone_whoever_is_connected() {
    let site = Site::start().unwrap();
    let url = site.url().to_owned();
    let client = client();
    let silent = std::net::TcpStream::connect(url.strip_prefix("http://").unwrap()).unwrap();
    assert_eq!(get(&client, url.clone()).await.0, 200);
    drop(site);
    assert!(client.get(url).send().await.is_err());
    drop(silent);
}
