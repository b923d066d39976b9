//! A run's fate in a line: what happens to it as a script of words, where it stands as a line of text.

use std::fmt::Write as _;

use super::Harness;
use crate::id::{HandlerName, PhaseName};
use crate::message::event::{Control, ControlAction, PhaseStatus};
use crate::message::outcome::{JobError, Outcome, Status};
use crate::payload::Payload;
use crate::run::{Event, Ignored, RunState, Stage};
use crate::time::Millis;

impl Harness {
    /// Plays a script of words separated by spaces, each changing something unless `=reason` follows:
    ///
    /// - `done:a:0`, `done:a:0-9`, `out:a:0` (done with an output), `fail:a:0`, `fatal:a:0` (not to be tried again),
    ///   `busy:a:0`, `draining:a:0`, `redelivered:a:0`, `unknown-handler:a:0`: the last attempt of jobs of handler `a`,
    ///   or the one after a `#`, as in `done:a:0#1`; `later:a:0` failed and asks to be tried again after a minute;
    /// - `page:a:0-9`: a page of the list that `a` makes itself, of the last attempt or the one after a `#`, of the list 7 or
    ///   the one after an `@`, as in `page:a:0-9#1@8`; `unfit:a:0`: one that cannot be taken; `sealed:a:10`, `sealed:a:10#1@8`: it is whole, with so many jobs;
    /// - `next`: the end of the phase is delivered; `wake`: time passes until the timer is due, and it goes off;
    ///   `look`: the timer goes off early, as when a worker comes; `worker:a`: one that hosts `a` comes;
    /// - `cancel` at once, `cancel:5000` within five seconds, `pause`, `resume`, `retry`, `rerun`, `rerun:work`: orders;
    /// - `lease:a:0`, `lease:a:0@40` (with its progress): a worker takes or renews a lease; `probe`: the probe that was
    ///   sent last comes back; `recover`: what was under way is lost;
    /// - `+1500`: milliseconds pass; `crash`: the coordinator dies, and another loads the run.
    ///
    /// # Panics
    /// When an invariant breaks, or a word does something else than it says.
    pub fn play(&mut self, script: &str) -> &mut Self {
        for word in script.split_whitespace() {
            let (word, expected) = word.split_once('=').map_or((word, None), |(word, why)| (word, Some(why)));
            let ignored = self.play_word(word).map(Ignored::as_str);
            assert_eq!(ignored, expected, "`{word}` in `{script}`: {}", self.summary());
        }
        self
    }

    fn play_word(&mut self, word: &str) -> Option<Ignored> {
        let event = match word.split_once(':') {
            None => match word {
                "next" => self.phase_finished(),
                "wake" => {
                    self.move_to_timer();
                    Event::Wake
                }
                "look" => Event::Wake,
                "cancel" => self.cancel(),
                "pause" => self.order(ControlAction::Pause),
                "resume" => self.order(ControlAction::Resume),
                "retry" => self.order(ControlAction::Retry),
                "rerun" => self.order(ControlAction::Rerun),
                "recover" => Event::Recover,
                "probe" => self.probes.last().expect("a probe was sent").clone(),
                "crash" => {
                    self.crash().unwrap_or_else(|broken| panic!("{broken}"));
                    return None;
                }
                _ => {
                    self.pass(Millis(word.parse().expect("a word that a script can have")));
                    return None;
                }
            },
            Some(("worker", handler)) => {
                self.outside.absent.retain(|absent: &HandlerName| *absent != *handler);
                Event::Wake
            }
            Some(("cancel", time)) => self.cancel_within(Millis(time.parse().expect("milliseconds"))),
            Some(("rerun", phase)) => {
                let phase = Some(PhaseName::new(phase).expect("a good phase name"));
                Event::Control(Control { phase, ..Control::new(self.run.head.id, ControlAction::Rerun) })
            }
            Some(("lease", job)) => {
                let (handler, job) = job.split_once(':').expect("a handler and a job");
                let (index, progress) = job.split_once('@').map_or((job, None), |(index, said)| (index, Some(said)));
                let progress = progress.map(|percent| percent.parse().expect("a percentage"));
                self.lease(handler, index.parse().expect("the number of a job"), progress)
            }
            Some(("page", jobs)) => self.listed_by(jobs, |(handler, attempt, list), (first, last)| {
                self.page(handler, attempt, list, first, last - first + 1)
            }),
            Some(("unfit", jobs)) => self
                .listed_by(jobs, |(handler, attempt, list), (first, _)| self.unfit_page(handler, attempt, list, first)),
            Some(("sealed", jobs)) => {
                self.listed_by(jobs, |(handler, attempt, list), (jobs, _)| self.sealed(handler, attempt, list, jobs))
            }
            Some((what, jobs)) => self.report_of(what, jobs),
        };
        self.deliver(&event)
    }

    /// What a word of a script says of a list, as in `a:0-9#1@8`.
    fn listed_by(&self, said: &str, event: impl Fn((&str, u32, u64), (u64, u64)) -> Event) -> Event {
        let number = |text: &str| text.parse::<u64>().expect("a number");
        let (said, list) = said.split_once('@').map_or((said, 7), |(said, list)| (said, number(list)));
        let (said, attempt) = said.split_once('#').map_or((said, None), |(said, attempt)| (said, Some(attempt)));
        let (handler, jobs) = said.split_once(':').expect("a handler and jobs");
        let attempt = attempt.map_or_else(|| self.attempt(handler, 0), |it| it.parse().expect("an attempt"));
        let (first, last) = jobs.split_once('-').unwrap_or((jobs, jobs));
        event((handler, attempt, list), (number(first), number(last)))
    }

    /// The event of a word of a script: `report_of("fatal", "a:0-9")`.
    ///
    /// # Panics
    /// When it does not speak of jobs.
    pub fn report_of(&self, what: &str, jobs: &str) -> Event {
        let (handler, jobs) = jobs.split_once(':').expect("a handler and jobs");
        let (jobs, attempt) = jobs.split_once('#').map_or((jobs, None), |(jobs, attempt)| (jobs, Some(attempt)));
        let (first, last) = jobs.split_once('-').unwrap_or((jobs, jobs));
        let number = |text: &str| text.parse::<u64>().expect("the number of a job");
        let kind = |what| Some(JobError::new(what, format!("it was {what}")));
        let (status, output, error) = match what {
            "done" => (Status::Done, None, None),
            "out" => (Status::Done, Some(Payload::from(serde_json::json!(jobs))), None),
            "fail" => (Status::Failed, None, kind("error")),
            "later" => {
                (Status::Failed, None, kind("error").map(|e| JobError { retry_after: Some(Millis(60_000)), ..e }))
            }
            "fatal" => (Status::Failed, None, kind("error").map(JobError::for_good)),
            _ => (Status::Returned, None, kind(what)),
        };
        let outcomes = (number(first)..=number(last)).map(|index| {
            let attempt = attempt.map_or_else(|| self.attempt(handler, index), |it| it.parse().expect("an attempt"));
            Outcome { index, attempt, status, output: output.clone(), error: error.clone(), details: None }
        });
        self.report(handler, &[], outcomes.collect())
    }

    /// Where the run stands: `running work#1: a out 2 done 1 left 5`; a timer as `in 1s`.
    pub fn summary(&self) -> String {
        let head = &self.run.head;
        let (state, entry) = (head.state.as_str(), &head.entry);
        let mut text = format!("{state} {}#{}", entry.phase, entry.number);
        match entry.stage {
            _ if head.state != RunState::Running => {}
            Stage::Finished { status: PhaseStatus::Succeeded, .. } => text += " finished",
            Stage::Finished { status: PhaseStatus::Failed, .. } => text += " finished failed",
            Stage::Working | Stage::Halted => {}
        }
        for handler in &entry.handlers {
            let _ = write!(text, ", {}", handler.name);
            if let Some(enumeration) = handler.enumeration.filter(|_| handler.is_listing()) {
                let _ = write!(text, " lists {}", enumeration.jobs);
            }
            let counts = [
                ("out", handler.out),
                ("leased", handler.leased),
                ("waiting", handler.waiting),
                ("done", handler.done),
                ("failed", handler.failed),
                ("left", handler.undispatched()),
            ];
            for (word, n) in counts.into_iter().filter(|&(_, n)| n > 0) {
                let _ = write!(text, " {word} {n}");
            }
        }
        if head.awaits_worker {
            text += ", awaits a worker";
        }
        let waits = entry.handlers.iter().any(|handler| handler.waiting + handler.leased > 0) || head.awaits_worker;
        if let (Some(at), Stage::Working) = (head.wake_at.filter(|_| waits), entry.stage) {
            let _ = write!(text, ", in {}", at.since(self.now));
        }
        if let Some(cause) = &head.cause {
            let _ = write!(text, ", because {}", cause.error.kind);
        }
        text
    }
}
