//! The site's pages as data, read from the text files beside this one. It knows nothing of HTML or HTTP.
//!
//! A page begins with `= /path Title`, a section with `== Heading`; an empty line ends a paragraph, and links are
//! written `[text](/path)`.

/// All there is to read, in the order of the front page.
const TEXTS: [&str; 3] = [include_str!("birds.txt"), include_str!("places.txt"), include_str!("notes.txt")];

/// A page of the site.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Page {
    /// Where it is, beginning with a slash.
    pub(super) path: String,
    /// What it is about.
    pub(super) title: String,
    /// Its content, from top to bottom.
    pub(super) blocks: Vec<Block>,
}

/// A part of a page.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Block {
    /// The heading of a section.
    Heading(String),
    /// A paragraph.
    Paragraph(Vec<Span>),
}

/// A part of a paragraph.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Span {
    /// Words.
    Text(String),
    /// Words that lead to another page.
    Link { text: String, path: String },
}

impl Page {
    /// Its first paragraph, as plain words.
    pub(super) fn summary(&self) -> String {
        let first = self.blocks.iter().find_map(|block| match block {
            Block::Paragraph(spans) => Some(spans),
            Block::Heading(_) => None,
        });
        first.into_iter().flatten().map(Span::words).collect()
    }
}

impl Span {
    fn words(&self) -> &str {
        match self {
            Self::Text(text) | Self::Link { text, .. } => text,
        }
    }
}

/// All pages but the front page.
pub(super) fn all() -> Vec<Page> {
    TEXTS.iter().flat_map(|text| parse(text)).collect()
}

fn parse(text: &str) -> Vec<Page> {
    let mut pages: Vec<Page> = Vec::new();
    for block in text.split("\n\n").map(str::trim).filter(|block| !block.is_empty()) {
        // A title or a heading stands directly above its first paragraph.
        let (head, below) = block.split_once('\n').unwrap_or((block, ""));
        let mut paragraph = block;
        if let Some((path, title)) = head.strip_prefix("= ").and_then(|head| head.split_once(' ')) {
            pages.push(Page { path: path.to_owned(), title: title.to_owned(), blocks: Vec::new() });
            paragraph = below;
        }
        // What stands above the first title belongs to no page.
        let Some(page) = pages.last_mut() else { continue };
        if let Some(heading) = head.strip_prefix("== ") {
            page.blocks.push(Block::Heading(heading.to_owned()));
            paragraph = below;
        }
        if !paragraph.is_empty() {
            page.blocks.push(Block::Paragraph(spans(&paragraph.replace('\n', " "))));
        }
    }
    pages
}

/// Takes the links out of a paragraph; a bracket that begins none is a bracket.
fn spans(paragraph: &str) -> Vec<Span> {
    let mut spans = Vec::new();
    let mut rest = paragraph;
    while let Some((before, text, path, after)) = first_link(rest) {
        if !before.is_empty() {
            spans.push(Span::Text(before.to_owned()));
        }
        spans.push(Span::Link { text: text.to_owned(), path: path.to_owned() });
        rest = after;
    }
    if !rest.is_empty() {
        spans.push(Span::Text(rest.to_owned()));
    }
    spans
}

/// What stands before the first link, its words, its path, and what stands after it.
fn first_link(text: &str) -> Option<(&str, &str, &str, &str)> {
    let middle = text.find("](/")?;
    let (before, words) = text[..middle].rsplit_once('[')?;
    let (path, after) = text[middle + 2..].split_once(')')?;
    Some((before, words, path, after))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(words: &str) -> Span {
        Span::Text(words.to_owned())
    }

    fn link(words: &str, path: &str) -> Span {
        Span::Link { text: words.to_owned(), path: path.to_owned() }
    }

    #[test]
    fn reads_links() {
        #[track_caller]
        fn check(paragraph: &str, want: &[Span]) {
            assert_eq!(spans(paragraph), want, "{paragraph}");
        }
        check("", &[]);
        check("No link [here].", &[text("No link [here].")]);
        check("A [b c](/d).", &[text("A "), link("b c", "/d"), text(".")]);
        check("[a](/b)[c](/d) [e]", &[link("a", "/b"), link("c", "/d"), text(" [e]")]);
        check("[a] [b](/c)", &[text("[a] "), link("b", "/c")]);
    }

    #[test]
    fn reads_pages() {
        let pages = parse("= /a First Page\nOne\ntwo.\n\nThree.\n\n== More\nFour.\n\n= /b Second\nFive [six](/a).\n");
        let heading = Block::Heading("More".to_owned());
        let paragraph = |words: &str| Block::Paragraph(vec![text(words)]);
        let first = vec![paragraph("One two."), paragraph("Three."), heading, paragraph("Four.")];
        assert_eq!(pages.len(), 2);
        assert_eq!(pages[0], Page { path: "/a".to_owned(), title: "First Page".to_owned(), blocks: first });
        assert_eq!(pages[0].summary(), "One two.");
        assert_eq!(pages[1].summary(), "Five six.");
    }
}
