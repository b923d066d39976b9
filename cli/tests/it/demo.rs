//! `demo`: one run of the catalog's `search`, from nothing to a summary.

use crate::command::Place;

#[test]
fn the_demo_searches_its_own_site_and_tells_what_it_found() {
    let place = Place::new();
    let expected = [
        "workflow search",
        "PageDownloader 17/18, 1 failed, 1 retried",
        "Found 17 pages",
        "/birds/razorbill",
        "pending → searching → fetching-pages → finished",
        "1 try failed and was tried again",
        "1 job failed for good, which the definition tolerates",
        "/birds/great-auk answers 404 Not Found",
        "✔ run succeeded after",
        "The pages are kept in pages",
    ];
    place.check(&["demo", "--keep", "pages"], 0, &expected);
    assert_eq!(std::fs::read_dir(place.path().join("pages")).unwrap().count(), 17);
}

#[test]
fn a_demo_that_fails_says_why() {
    let expected = ["(by the error transition)", "error: the run failed after", "in phase `searching`, GoogleSearcher"];
    // Port 1 of this machine: nothing listens there.
    Place::new().check(&["demo", "--site", "http://127.0.0.1:1", "--query", "x"], 1, &expected);
}

#[test]
fn ctrl_c_cancels_the_demo() {
    let place = Place::new();
    let mut demo = place.start(&["demo"]);
    demo.until("> searching");
    demo.signal("INT");
    let done = demo.end();
    assert_eq!(done.exit, 130, "{}", done.err);
    assert!(done.err.contains("the run is canceled"), "{}", done.err);
}

#[test]
fn a_reader_that_went_away_does_not_stop_it() {
    let place = Place::new().with("PHASEWORK_LOG", "info");
    let mut demo = place.start(&["demo"]);
    demo.until("> searching");
    let done = demo.deaf().end();
    assert_eq!(done.exit, 0);
    assert!(done.out.contains("Found 17 pages"), "{}", done.out);
}
