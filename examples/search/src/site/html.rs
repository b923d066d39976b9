//! The site's pages as HTML, and its sitemap as XML. It decides nothing but what they look like.

use super::pages::{Block, Page, Span};

const NAME: &str = "A Field Guide to Sea Birds";

/// The sections of the front page: how the paths of their pages begin, and what they are called.
const SECTIONS: [(&str, &str); 3] = [("/birds/", "Birds"), ("/places/", "Places"), ("/notes/", "Notes")];

/// A page of the guide.
pub(super) fn page(page: &Page) -> String {
    let mut body = format!("<article>\n<h1>{}</h1>\n", escape(&page.title));
    for block in &page.blocks {
        match block {
            Block::Heading(heading) => body += &format!("<h2>{}</h2>\n", escape(heading)),
            Block::Paragraph(spans) => body += &format!("<p>{}</p>\n", spans.iter().map(span).collect::<String>()),
        }
    }
    body += "</article>";
    document(&page.title, &page.summary(), &body)
}

/// The front page, with a link to every page.
pub(super) fn front_page(pages: &[Page]) -> String {
    let mut body = format!("<h1>{NAME}</h1>\n<p>The birds, where they live, and what we know about them.</p>\n");
    for (prefix, title) in SECTIONS {
        body += &format!("<h2>{title}</h2>\n<ul>\n");
        for page in pages.iter().filter(|page| page.path.starts_with(prefix)) {
            body += &format!("<li><a href=\"{}\">{}</a></li>\n", escape(&page.path), escape(&page.title));
        }
        body += "</ul>\n";
    }
    document("Contents", "Sea birds of two hemispheres, where they live, and what we know about them.", &body)
}

/// A page that says only one thing.
pub(super) fn notice(title: &str, words: &str) -> String {
    document(title, words, &format!("<h1>{}</h1>\n<p>{}</p>", escape(title), escape(words)))
}

/// The list of all pages for programs that search.
pub(super) fn sitemap<'a>(url: &str, paths: impl Iterator<Item = &'a str>) -> String {
    let entries: String =
        paths.map(|path| format!("  <url><loc>{}</loc></url>\n", escape(&format!("{url}{path}")))).collect();
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\
         <urlset xmlns=\"http://www.sitemaps.org/schemas/sitemap/0.9\">\n{entries}</urlset>\n"
    )
}

fn document(title: &str, description: &str, body: &str) -> String {
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<title>{} – {NAME}</title>\n\
         <meta name=\"description\" content=\"{}\">\n</head>\n<body>\n<nav><a href=\"/\">{NAME}</a></nav>\n\
         <main>\n{body}\n</main>\n</body>\n</html>\n",
        escape(title),
        escape(description),
    )
}

fn span(span: &Span) -> String {
    match span {
        Span::Text(text) => escape(text),
        Span::Link { text, path } => format!("<a href=\"{}\">{}</a>", escape(path), escape(text)),
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
