//! What is on a page: its title, its words, its links. Reads HTML and fetches nothing.

use std::sync::LazyLock;

use scraper::{ElementRef, Html, Node, Selector};
use url::Url;

use crate::web::Fetched;

/// A page, read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// What it calls itself; its address when it has no title.
    pub title: String,
    /// Its words in order, in small letters.
    pub words: Vec<String>,
    /// Where its links lead, without repetition and without the part after `#`.
    pub links: Vec<Url>,
}

static TITLE: LazyLock<Selector> = LazyLock::new(|| selector("title"));
static LINK: LazyLock<Selector> = LazyLock::new(|| selector("a[href]"));
static BODY: LazyLock<Selector> = LazyLock::new(|| selector("body"));
static LOCATION: LazyLock<Selector> = LazyLock::new(|| selector("loc"));

fn selector(css: &'static str) -> Selector {
    Selector::parse(css).expect("a selector of our own")
}

impl Page {
    /// Reads a page.
    pub fn read(fetched: &Fetched) -> Self {
        let document = Html::parse_document(&fetched.text);
        let title = document.select(&TITLE).next().map(|title| title.text().collect::<String>().trim().to_owned());
        let body = document.select(&BODY).next().unwrap_or_else(|| document.root_element());
        let links = document.select(&LINK).filter_map(|link| fetched.url.join(link.attr("href")?).ok());
        Self {
            title: title.filter(|title| !title.is_empty()).unwrap_or_else(|| fetched.url.to_string()),
            words: words(&text(body)),
            links: distinct(links),
        }
    }

    /// How many of its words begin with one of these.
    pub fn matches(&self, query: &[String]) -> usize {
        self.words.iter().filter(|word| query.iter().any(|asked| word.starts_with(asked.as_str()))).count()
    }

    /// How well it fits a query: each word of the query that is in the title or, up to a limit, on the page. Having
    /// all words counts more than having one often.
    pub fn score(&self, query: &[String]) -> usize {
        let title = words(&self.title);
        let of_word = |asked: &String| {
            let often = self.matches(std::slice::from_ref(asked));
            let in_title = title.iter().any(|word| word.starts_with(asked.as_str()));
            if often == 0 && !in_title { 0 } else { 100 + often.min(10) + if in_title { 50 } else { 0 } }
        };
        query.iter().map(of_word).sum()
    }
}

/// The addresses that a sitemap lists.
pub fn sitemap(fetched: &Fetched) -> Vec<Url> {
    let document = Html::parse_document(&fetched.text);
    let locations = document.select(&LOCATION).map(|location| location.text().collect::<String>());
    distinct(locations.filter_map(|location| fetched.url.join(location.trim()).ok()))
}

/// The words of a text, in small letters.
pub fn words(text: &str) -> Vec<String> {
    text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()).map(str::to_lowercase).collect()
}

/// What a reader sees of an element.
fn text(of: ElementRef<'_>) -> String {
    let mut seen = String::new();
    for node in of.descendants() {
        let hidden = node.ancestors().filter_map(ElementRef::wrap).any(|around| is_hidden(around.value().name()));
        if let (Node::Text(text), false) = (node.value(), hidden) {
            seen.push_str(text);
            seen.push(' '); // neighbouring elements do not make one word
        }
    }
    seen
}

fn is_hidden(element: &str) -> bool {
    matches!(element, "script" | "style" | "noscript" | "template")
}

fn distinct(urls: impl Iterator<Item = Url>) -> Vec<Url> {
    let mut seen = std::collections::BTreeSet::new();
    urls.map(|mut url| {
        url.set_fragment(None);
        url
    })
    .filter(|url| seen.insert(url.clone()))
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(text: &str) -> Page {
        Page::read(&Fetched { url: "http://127.0.0.1/birds/".parse().unwrap(), text: text.to_owned() })
    }

    #[test]
    fn a_page_has_a_title_words_and_links() {
        let page = page(
            "<title> Storm\nPetrel </title><body><script>var x</script><h1>The Petrel</h1>It's <b>small</b><p>and \
             shy.<a href='../notes/#a'>Notes</a><a href='/notes/#b'>Again</a><a href='mailto:x@y'>Mail</a>",
        );
        assert_eq!(page.title, "Storm\nPetrel");
        assert_eq!(page.words.join(" "), "the petrel it s small and shy notes again mail");
        let links: Vec<_> = page.links.iter().map(Url::as_str).collect();
        assert_eq!(links, ["http://127.0.0.1/notes/", "mailto:x@y"]);
    }

    #[test]
    fn what_is_not_html_is_read_too() {
        let page = page("just text");
        assert_eq!((page.title.as_str(), page.words.len()), ("http://127.0.0.1/birds/", 2));
        assert_eq!(self::page("").words, Vec::<String>::new());
    }

    #[test]
    fn all_words_count_more_than_one_word_often() {
        let query = words("storm petrel");
        let both = page("<title>Birds</title>A storm, and a petrel");
        let often = page("<title>Petrel</title>Petrels, petrels, petrels");
        let none = page("<title>Gulls</title>Gulls");
        assert!(both.score(&query) > often.score(&query));
        assert_eq!((often.matches(&query), none.score(&query)), (3, 0));
    }
}
