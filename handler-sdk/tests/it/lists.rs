//! Handlers that list their jobs themselves: pages, how many are under way, what is sent again, and how a list ends.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use phasework_broker::{Broker as _, Message};
use phasework_sdk::{Context, HandlerError, JobList, Worker};
use phasework_workflows::Payload;
use phasework_workflows::id::Nonce;
use phasework_workflows::message::job::JobGroup;
use phasework_workflows::message::listing::{JobsListed, ListAnswered, Sealed};
use phasework_workflows::message::outcome::{Outcome, Status};
use phasework_workflows::message::{self, Body as _};
use phasework_workflows::time::Millis;
use tokio::time::{Instant, sleep, timeout};

use crate::bench::{Bench, group, kind};

async fn echo(input: serde_json::Value, _: Context) -> Result<serde_json::Value, HandlerError> {
    Ok(input)
}

/// Lists as many jobs as it is told, each the text `x` so many times.
async fn list((count, length): (u64, usize), jobs: JobList<String>, _: Context) -> Result<(), HandlerError> {
    for _ in 0..count {
        jobs.push("x".repeat(length)).await?;
    }
    Ok(())
}

fn lister(worker: Worker) -> Worker {
    worker.handler("Echo", "1.0.0", echo).enumerate(list)
}

/// Asks for a list of so many jobs of so many characters.
fn asked(count: u64, length: usize) -> JobGroup {
    let data = Some(Payload::of(&(count, length)).unwrap());
    let timeout = Millis::from_mins(10);
    JobGroup { nonce: Nonce(12), enumerate: true, timeout, data, range: Some((0, 1)), ..group() }
}

/// Says to a page how much is stored.
async fn answer(bench: &Bench, page: &JobsListed, listed: Option<u64>) {
    say(bench, page, (listed, false)).await;
}

/// Says to a page how much is stored, and whether another list is taken.
async fn say(bench: &Bench, page: &JobsListed, (listed, other): (Option<u64>, bool)) {
    let JobsListed { run, entry, nonce, ref handler, attempt, list, ref reply, .. } = *page;
    let body = ListAnswered { run, entry, nonce, handler: handler.clone(), attempt, list, listed, other };
    let to = phasework_broker::Address::Submit;
    let message = Message::new(to, ListAnswered::KIND, message::encode(&body));
    bench.broker.reply(&reply.as_ref().unwrap().queue, message).await.unwrap();
}

fn end(page: &JobsListed) -> u64 {
    page.first + page.items.len() as u64
}

fn sealed(outcome: &Outcome) -> Sealed {
    assert_eq!(outcome.status, Status::Done, "{outcome:?}");
    outcome.output.as_ref().unwrap().read().unwrap()
}

/// What is listed when every page is stored: how many jobs each page had.
async fn check(count: u64, length: usize, expected: &[usize]) {
    let mut bench = Bench::start(lister).await;
    bench.send(vec![asked(count, length)]).await;
    let (mut sizes, mut names) = (Vec::new(), Vec::new());
    for _ in expected {
        let page: JobsListed = bench.told().await;
        let of = (page.run, page.entry, page.nonce, page.attempt, page.first);
        assert_eq!(of, (group().run, 2, Nonce(12), 1, sizes.iter().sum::<usize>() as u64));
        sizes.push(page.items.len());
        names.push(page.list);
        answer(&bench, &page, Some(end(&page))).await;
    }
    let outcome = bench.outcome().await;
    assert_eq!((sizes.as_slice(), sealed(&outcome).jobs), (expected, count), "{count} of {length}");
    assert!(names.iter().all(|name| *name == sealed(&outcome).list));
    assert_eq!(bench.unacknowledged().await, 0);
}

#[tokio::test(start_paused = true)]
async fn a_list_comes_in_pages_and_is_sealed() {
    check(0, 1, &[]).await;
    check(1, 1, &[1]).await;
    check(2500, 1, &[1024, 1024, 452]).await;
    check(5, 100_000, &[2, 2, 1]).await;
    check(3, 900_000, &[1, 1, 1]).await;
}

#[tokio::test(start_paused = true)]
async fn who_lists_faster_than_is_stored_waits() {
    let pushed = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&pushed);
    let list = move |(count, _): (u64, usize), jobs: JobList<u64>, _: Context| {
        let counter = Arc::clone(&counter);
        async move {
            for n in 0..count {
                jobs.push(n).await?;
                counter.fetch_add(1, Ordering::Relaxed);
            }
            Ok(())
        }
    };
    let mut bench = Bench::start(|worker| worker.handler("Echo", "1.0.0", echo).enumerate(list)).await;
    bench.send(vec![asked(100_000, 0)]).await;
    let mut first = None;
    for page in 0..4 {
        let told: JobsListed = bench.told().await;
        assert_eq!(told.first, page * 1024);
        first.get_or_insert(told);
    }
    bench.idle().await;
    assert!(timeout(Duration::from_secs(4), bench.told::<JobsListed>()).await.is_err(), "a fifth page");
    assert!(pushed.load(Ordering::Relaxed) <= 4 * 1024, "{pushed:?} were pushed");
    answer(&bench, &first.unwrap(), Some(1024)).await;
    assert_eq!(bench.told::<JobsListed>().await.first, 4 * 1024);
}

#[tokio::test(start_paused = true)]
async fn pages_that_are_not_answered_are_sent_again() {
    let mut bench = Bench::start(lister).await;
    bench.send(vec![asked(3000, 1)]).await;
    let began = Instant::now();
    let (mut stored, mut seen) = (0, BTreeMap::<u64, u32>::new());
    // The first two times that a page comes it is lost.
    while stored < 3000 {
        let page: JobsListed = bench.told().await;
        let times = seen.entry(page.first).or_default();
        *times += 1;
        if *times > 2 && page.first == stored {
            stored = end(&page);
            answer(&bench, &page, Some(stored)).await;
            answer(&bench, &page, Some(stored)).await;
        }
    }
    assert_eq!(sealed(&bench.outcome().await).jobs, 3000);
    assert!(began.elapsed() >= Duration::from_secs(15), "5 s, and then 10 s");
}

#[tokio::test(start_paused = true)]
async fn a_list_that_no_longer_matters_is_stopped() {
    let mut bench = Bench::start(lister).await;
    bench.send(vec![asked(u64::MAX, 1)]).await;
    let page: JobsListed = bench.told().await;
    answer(&bench, &page, None).await;
    let outcome = bench.outcome().await;
    assert_eq!((outcome.status, kind(&outcome)), (Status::Returned, "canceled"));
    assert_eq!(bench.unacknowledged().await, 0);
}

#[tokio::test(start_paused = true)]
async fn a_list_in_whose_place_another_is_taken_is_handed_back_as_that() {
    let mut bench = Bench::start(lister).await;
    bench.send(vec![asked(u64::MAX, 1)]).await;
    let page: JobsListed = bench.told().await;
    say(&bench, &page, (None, true)).await;
    let outcome = bench.outcome().await;
    assert_eq!((outcome.status, kind(&outcome)), (Status::Returned, "other-list"));
    assert_eq!(bench.unacknowledged().await, 0);
}

#[tokio::test(start_paused = true)]
async fn what_is_said_of_another_list_is_passed_over() {
    let mut bench = Bench::start(lister).await;
    bench.send(vec![asked(2, 1)]).await;
    let page: JobsListed = bench.told().await;
    let of_other = JobsListed { list: Nonce(page.list.0 ^ 1), ..page.clone() };
    answer(&bench, &of_other, Some(end(&page))).await;
    answer(&bench, &of_other, None).await;
    let early = timeout(Duration::from_secs(1), bench.outcome()).await;
    assert!(early.is_err(), "{early:?}");
    answer(&bench, &page, Some(end(&page))).await;
    assert_eq!(sealed(&bench.outcome().await).jobs, 2);
}

#[tokio::test(start_paused = true)]
async fn a_list_of_which_something_is_lost_is_handed_back() {
    let mut bench = Bench::start(lister).await;
    bench.send(vec![asked(u64::MAX, 1)]).await;
    let mut page: JobsListed = bench.told().await;
    while end(&page) <= 8 * 1024 {
        answer(&bench, &page, Some(end(&page))).await;
        page = bench.told().await;
    }
    // From now on only four pages are stored, whatever comes.
    let mut told = None;
    for _ in 0..60 {
        answer(&bench, &page, Some(4 * 1024)).await;
        told = timeout(Duration::from_secs(1), bench.outcome()).await.ok();
        if told.is_some() {
            break;
        }
    }
    let told = told.expect("an outcome within a minute");
    assert_eq!((told.status, kind(&told)), (Status::Returned, "list-lost"));
}

/// It is answers that count, and in a row: neither silence, nor answers that come late and out of their order.
#[tokio::test(start_paused = true)]
async fn what_is_said_once_of_less_is_not_believed() {
    let mut bench = Bench::start(lister).await;
    bench.send(vec![asked(8 * 1024, 1)]).await;
    let mut page: JobsListed = bench.told().await;
    while page.first < 7 * 1024 {
        answer(&bench, &page, Some(end(&page))).await;
        page = bench.told().await;
    }
    for late in [1024, 2048, 3072] {
        answer(&bench, &page, Some(late)).await;
    }
    let early = timeout(Duration::from_secs(300), bench.outcome()).await;
    assert!(early.is_err(), "{early:?}");
    answer(&bench, &page, Some(end(&page))).await;
    assert_eq!(sealed(&bench.outcome().await).jobs, 8 * 1024);
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_does_not_enumerate_says_so() {
    let mut bench = Bench::start(|worker| worker.handler("Echo", "1.0.0", echo)).await;
    bench.send(vec![asked(5, 1)]).await;
    let outcome = bench.outcome().await;
    let error = outcome.error.clone().unwrap();
    assert_eq!((outcome.status, &*error.kind, error.retry), (Status::Failed, "enumerate", false));
    assert!(error.message.starts_with("Echo 1.0.0 does not enumerate: "), "{}", error.message);
}

#[tokio::test(start_paused = true)]
async fn a_list_fails_as_a_job_does() {
    async fn fails(how: String, jobs: JobList<u8>, ctx: Context) -> Result<(), HandlerError> {
        jobs.push(1).await?;
        assert_eq!(ctx.idempotency_key(), format!("{}/2/Echo/list", ctx.run()));
        match how.as_str() {
            "retry" => Err(HandlerError::retry("no connection")),
            "fail" => Err(HandlerError::fail("no such site")),
            "panic" => panic!("a bug"),
            _ => {
                sleep(Duration::from_secs(86_400)).await;
                Ok(())
            }
        }
    }
    let mut bench = Bench::start(|worker| worker.handler("Echo", "1.0.0", echo).enumerate(fails)).await;
    for (how, expected, retry) in
        [("retry", "error", true), ("fail", "error", false), ("panic", "panic", true), ("hang", "timeout", true)]
    {
        let data = Some(Payload::of(how).unwrap());
        bench.send(vec![JobGroup { data, ..asked(1, 1) }]).await;
        let outcome = bench.outcome().await;
        let error = outcome.error.clone().unwrap();
        assert_eq!((outcome.status, &*error.kind, error.retry), (Status::Failed, expected, retry), "{how}");
    }
    bench.send(vec![JobGroup { data: Some(Payload::of(&7).unwrap()), ..asked(1, 1) }]).await;
    let outcome = bench.outcome().await;
    assert_eq!((outcome.status, kind(&outcome)), (Status::Failed, "input"), "{outcome:?}");
}

#[tokio::test(start_paused = true)]
async fn a_list_that_takes_long_is_leased() {
    async fn slow(_: serde_json::Value, jobs: JobList<u64>, _: Context) -> Result<(), HandlerError> {
        for n in 0..60 {
            sleep(Duration::from_secs(1)).await;
            jobs.push(n).await?;
        }
        Ok(())
    }
    let mut bench = Bench::start(|worker| worker.handler("Echo", "1.0.0", echo).enumerate(slow)).await;
    bench.send(vec![asked(1, 1)]).await;
    // It is to be seen how far it is, however slowly it goes on.
    let page: JobsListed = bench.told().await;
    assert!((1..=3).contains(&page.items.len()), "{page:?}");
    answer(&bench, &page, Some(end(&page))).await;
    let (leases, _) = bench.answer_leases(Some(phasework_workflows::message::lease::LEASE)).await;
    let lease = &leases.groups[0];
    assert_eq!((lease.nonce, lease.leases[0].index, lease.leases[0].attempt), (Nonce(12), 0, 1));
    bench.idle().await;
    let broker = bench.kill().await;
    let queue = phasework_broker::Address::Jobs(crate::bench::QUEUE.into());
    assert_eq!(broker.depth(&queue).await.unwrap(), 0, "the lease is in place of the message");
}
