//! Counts tests from what test programs write, line by line. It knows the format of Rust's own test harness only.

/// What became of the tests, over any number of test programs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    /// Tests that passed.
    pub(crate) passed: u64,
    /// Tests that failed; a test program that ended without a result counts as one.
    pub(crate) failed: u64,
    /// Tests marked `#[ignore]`.
    pub(crate) skipped: u64,
    /// The names of those that failed.
    pub(crate) failures: Vec<String>,
    // What a test program has said so far that has begun, and not yet given its result.
    under_way: Option<UnderWay>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct UnderWay {
    passed: u64,
    failed: u64,
    skipped: u64,
}

impl Tally {
    /// Takes one line of output into account.
    pub(crate) fn read(&mut self, line: &str) {
        if let Some(counts) = line.strip_prefix("test result: ") {
            self.under_way = None;
            self.passed += count(counts, "passed");
            self.failed += count(counts, "failed");
            self.skipped += count(counts, "ignored");
        } else if is_beginning(line) {
            self.end();
            self.under_way = Some(UnderWay::default());
        } else if let Some((name, result)) = line.strip_prefix("test ").and_then(|rest| rest.rsplit_once(" ... ")) {
            self.read_test(name, result);
        }
    }

    fn read_test(&mut self, name: &str, result: &str) {
        let Some(under_way) = &mut self.under_way else { return };
        if result == "ok" {
            under_way.passed += 1;
        } else if result == "FAILED" {
            under_way.failed += 1;
            self.failures.push(name.to_owned());
        } else if result.starts_with("ignored") {
            under_way.skipped += 1;
        }
    }

    /// Says that no more lines come, or that another program begins. One that has not given its result has died: of
    /// its tests, those count that it had told of, and one more for the one that it died in.
    pub(crate) fn end(&mut self) {
        if let Some(UnderWay { passed, failed, skipped }) = self.under_way.take() {
            self.passed += passed;
            self.failed += failed + 1;
            self.skipped += skipped;
            self.failures.push(String::from("a test program ended before it gave its result (see above)"));
        }
    }
}

/// `running 12 tests`, `running 1 test`.
fn is_beginning(line: &str) -> bool {
    let number = line.strip_prefix("running ").and_then(|rest| rest.split_once(" test"));
    number.is_some_and(|(number, rest)| number.parse::<u64>().is_ok() && (rest.is_empty() || rest == "s"))
}

/// The number before `what`, in `ok. 5 passed; 0 failed; 1 ignored; …`.
fn count(counts: &str, what: &str) -> u64 {
    let words: Vec<&str> = counts.split([' ', ';']).collect();
    words.windows(2).find(|pair| pair[1] == what).and_then(|pair| pair[0].parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(output: &str, passed: u64, failed: u64, skipped: u64, failures: &[&str]) {
        let mut tally = Tally::default();
        output.lines().for_each(|line| tally.read(line));
        tally.end();
        let want = failures.iter().map(|&name| name.to_owned()).collect();
        assert_eq!(tally, Tally { passed, failed, skipped, failures: want, under_way: None }, "{output}");
    }

    #[test]
    fn counts_over_all_programs() {
        check("", 0, 0, 0, &[]);
        check(
            "running 2 tests\ntest a ... ok\ntest b ... ignored\n\n\
             test result: ok. 1 passed; 0 failed; 1 ignored; 0 measured; 4 filtered out; finished in 0.00s\n\n\
             running 1 test\ntest c ... ok\n\
             test result: ok. 1 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1.50s\n",
            2,
            0,
            1,
            &[],
        );
    }

    #[test]
    fn names_what_failed() {
        check(
            "running 2 tests\ntest a::b ... FAILED\ntest src/id.rs - Id (line 3) ... FAILED\n\
             test result: FAILED. 0 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s\n",
            0,
            2,
            0,
            &["a::b", "src/id.rs - Id (line 3)"],
        );
    }

    #[test]
    fn a_program_that_dies_counts_as_a_failure() {
        let died = "a test program ended before it gave its result (see above)";
        check("running 2 tests\ntest a ... ok\n", 1, 1, 0, &[died]);
        check("running 3 tests\ntest a ... ignored, slow\ntest b ... FAILED\n", 0, 2, 1, &["b", died]);
        check(
            "running 2 tests\ntest a ... ok\nrunning 1 test\ntest c ... ok\n\
             test result: ok. 1 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s\n",
            2,
            1,
            0,
            &[died],
        );
        check("running out of patience\nrunning 3 tests of strength\n", 0, 0, 0, &[]);
    }
}
