//! The four handlers of the search workflow. Each is a function from its input to its output; the crawling, fetching
//! and reading they leave to the other modules.

use std::cmp::Reverse;
use std::path::PathBuf;

use phasework_sdk::{Context, HandlerError};
use serde::{Deserialize, Serialize};

use crate::crawl::crawl;
use crate::files;
use crate::page::{Page, words};
use crate::web::{Web, WebError};

/// What the handlers need besides their jobs.
#[derive(Clone, Debug)]
pub struct Shop {
    /// The way to the web.
    pub web: Web,
    /// Where downloaded pages are kept; nowhere without it.
    pub pages: Option<PathBuf>,
    /// Where e-mails are put; into the log without it.
    pub outbox: Option<PathBuf>,
}

/// The run's data.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Search {
    /// The site to search: the address of any of its pages.
    pub site: String,
    /// The words to search for; without any, every page of the site is a result.
    #[serde(default)]
    pub query: String,
    /// The most results.
    #[serde(default = "Search::default_limit")]
    pub limit: usize,
    /// Who is told when it goes wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub email: Option<String>,
}

impl Search {
    fn default_limit() -> usize {
        20
    }
}

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Results {
    /// The addresses of the pages, the best first.
    pub urls: Vec<String>,
}

/// `GoogleSearcher`: finds the pages of a site that have the words of a query, the best first. (It asks no search
/// engine: it looks at the site itself.)
pub async fn google_searcher(search: Search, _: Context, shop: Shop) -> Result<Results, HandlerError> {
    let site = Web::address(&search.site).map_err(WebError::into_handler_error)?;
    let found = crawl(&shop.web, &site).await.map_err(WebError::into_handler_error)?;
    let query = words(&search.query);
    let mut ranked: Vec<_> = found.iter().map(|found| (found.score(&query), &found.url)).collect();
    if !query.is_empty() {
        ranked.retain(|(score, _)| *score > 0);
        ranked.sort_by_key(|(score, _)| Reverse(*score)); // stable: of equals, the one found first
    }
    Ok(Results { urls: ranked.into_iter().take(search.limit).map(|(_, url)| url.to_string()).collect() })
}

/// A page to download: its address, alone or in an object.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub enum PageToDownload {
    /// `"https://…"`
    Plain(String),
    /// `{"url": "https://…"}`
    Object {
        /// Its address.
        url: String,
    },
}

/// A page that was downloaded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Downloaded {
    /// Its address.
    pub url: String,
    /// What it calls itself.
    pub title: String,
    /// How large it is.
    pub bytes: usize,
    /// How many words it has.
    pub words: usize,
    /// How many of them are words of the run's query.
    pub matches: usize,
    /// The file it is kept in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<PathBuf>,
}

/// `PageDownloader`: downloads a page, counts its words, and keeps it. A server in trouble is asked again later; a page
/// that does not exist is given up at once.
pub async fn page_downloader(page: PageToDownload, ctx: Context, shop: Shop) -> Result<Downloaded, HandlerError> {
    let (PageToDownload::Plain(url) | PageToDownload::Object { url }) = page;
    let address = Web::address(&url).map_err(WebError::into_handler_error)?;
    let fetched = shop.web.get(&address).await.map_err(WebError::into_handler_error)?;
    let read = Page::read(&fetched);
    // Pages may be downloaded without a search; then there is nothing to match.
    let query = ctx.data::<Search>().map(|search| words(&search.query)).unwrap_or_default();
    let (matches, bytes) = (read.matches(&query), fetched.text.len());
    let file = match shop.pages {
        // The name is that of the job, so trying again overwrites.
        Some(folder) => {
            Some(files::write(folder.join(format!("{}-{}.html", ctx.run(), ctx.index())), fetched.text).await?)
        }
        None => None,
    };
    Ok(Downloaded { url, title: read.title, bytes, words: read.words.len(), matches, file })
}

/// The pages that were to be downloaded.
#[derive(Clone, Debug, Deserialize)]
pub struct Finished {
    /// Each page; `null` for one that could not be downloaded.
    pub pages: Vec<Option<Downloaded>>,
}

/// The result of the whole search.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    /// How many pages were downloaded.
    pub pages: usize,
    /// How many could not be.
    pub missing: usize,
    /// The size of all pages.
    pub bytes: usize,
    /// The words on all pages.
    pub words: usize,
    /// The pages with the most words of the query.
    pub best: Vec<Best>,
}

/// A page worth reading.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Best {
    /// What it calls itself.
    pub title: String,
    /// Its address.
    pub url: String,
    /// How many of its words are words of the query.
    pub matches: usize,
}

/// `JobFinisher`: sums up what came of the search.
pub async fn job_finisher(finished: Finished, _: Context) -> Result<Summary, HandlerError> {
    let downloaded: Vec<&Downloaded> = finished.pages.iter().flatten().collect();
    let mut best = downloaded.clone();
    best.sort_by_key(|page| Reverse(page.matches)); // stable: of equals, the one found first
    let best = best.into_iter().take(3);
    Ok(Summary {
        pages: downloaded.len(),
        missing: finished.pages.len() - downloaded.len(),
        bytes: downloaded.iter().map(|page| page.bytes).sum(),
        words: downloaded.iter().map(|page| page.words).sum(),
        best: best.map(|p| Best { title: p.title.clone(), url: p.url.clone(), matches: p.matches }).collect(),
    })
}

/// What became of an e-mail.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Written {
    /// Who it is for.
    pub to: String,
    /// The file it was put in; none when it went to the log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<PathBuf>,
}

/// `ErrorEmailer`: writes an e-mail about a search that went wrong. It is put into a folder or the log; sending it over
/// SMTP is not part of the example yet.
pub async fn error_emailer(_: serde_json::Value, ctx: Context, shop: Shop) -> Result<Written, HandlerError> {
    let search: Search = ctx.data()?;
    let to = search.email.unwrap_or_else(|| "operator@localhost".to_owned());
    let (run, query, site) = (ctx.run(), search.query, search.site);
    let email = format!(
        "To: {}\nSubject: The search for {} has failed\nMessage-ID: <{run}@phasework>\n\n\
         The search for `{query}` on {site} has failed.\n`phasework runs show {run}` tells why.\n",
        one_line(&to),
        one_line(&query)
    );
    let Some(outbox) = shop.outbox else {
        tracing::info!(%run, "e-mail:\n{email}");
        return Ok(Written { to, file: None });
    };
    Ok(Written { to, file: Some(files::write(outbox.join(format!("{run}.eml")), email).await?) })
}

/// A header of an e-mail has one line.
fn one_line(text: &str) -> String {
    text.replace(char::is_control, " ")
}
