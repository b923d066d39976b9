//! Finds the pages of one site: those that its sitemap lists, and those that its pages link to, nearest first. It
//! never leaves the site, and never looks at more pages than [`MAX_PAGES`].

use std::collections::BTreeSet;

use futures::StreamExt as _;
use url::Url;

use crate::page::{Page, sitemap, words};
use crate::web::{Web, WebError};

/// The most pages that are looked at.
pub const MAX_PAGES: usize = 200;

/// How many pages are fetched at once.
const AT_ONCE: usize = 16;

/// A page that was found.
#[derive(Clone, Debug)]
pub struct Found {
    /// Where it is.
    pub url: Url,
    /// What is on it; `None` when it could not be read just now.
    pub page: Option<Page>,
}

impl Found {
    /// How well it fits a query. A page that could not be read is judged by its address, as by an index that is old.
    pub fn score(&self, query: &[String]) -> usize {
        match &self.page {
            Some(page) => page.score(query),
            None => Page { title: String::new(), words: words(self.url.path()), links: Vec::new() }.score(query),
        }
    }
}

/// Finds the pages of the site that `start` is on, breadth first.
///
/// # Errors
/// When nothing of the site can be read.
pub async fn crawl(web: &Web, start: &Url) -> Result<Vec<Found>, WebError> {
    let mut level = vec![start.clone()];
    if let Ok(map) = web.get(&start.join("/sitemap.xml").unwrap_or_else(|_| start.clone())).await {
        level.extend(sitemap(&map));
    }
    let mut seen = BTreeSet::new();
    let mut found = Vec::new();
    let mut first_error = None;
    while !level.is_empty() {
        level.retain(|url| url.origin() == start.origin() && seen.insert(url.clone()));
        level.truncate(MAX_PAGES.saturating_sub(found.len()));
        let mut reading = futures::stream::iter(level.drain(..).map(|url| read(web, url))).buffered(AT_ONCE);
        let mut next = Vec::new();
        while let Some((url, result)) = reading.next().await {
            match result {
                Ok(page) => {
                    next.extend(page.links.clone());
                    found.push(Found { url, page: Some(page) });
                }
                Err(WebError::NotText(..) | WebError::TooLarge(_)) => {} // not for readers
                Err(error) => {
                    tracing::debug!(%url, %error, "found, but not read");
                    first_error.get_or_insert(error);
                    found.push(Found { url, page: None });
                }
            }
        }
        drop(reading);
        level = next;
    }
    match first_error {
        Some(error) if found.iter().all(|found| found.page.is_none()) => Err(error),
        _ => Ok(found),
    }
}

async fn read(web: &Web, url: Url) -> (Url, Result<Page, WebError>) {
    let result = web.get(&url).await.map(|fetched| Page::read(&fetched));
    (url, result)
}
