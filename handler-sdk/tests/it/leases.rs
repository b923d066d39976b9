//! Leases: taken on what runs for long, in place of its message, renewed, lost, and let go of.

use std::sync::Arc;
use std::time::Duration;

use phasework_broker::memory::MemoryBroker;
use phasework_broker::{Address, Broker as _, Message};
use phasework_sdk::{Context, HandlerError, Worker};
use phasework_workflows::message::job::{CancelJobs, CanceledEntry, JobGroup, Jobs};
use phasework_workflows::message::lease::{LEASE, LEASE_AFTER, LeaseAnswer, LeaseWanted, Leases, LeasesAnswered};
use phasework_workflows::message::outcome::Status;
use phasework_workflows::message::{self, Body as _};
use phasework_workflows::time::Millis;
use tokio::time::{Instant, sleep};

use crate::bench::{Bench, QUEUE, Reader, kind, publish, range, run};
use crate::moody::Moody;

/// Works for as many seconds as its input says, or until it is canceled.
async fn work(seconds: u64, ctx: Context) -> Result<(), HandlerError> {
    tokio::select! {
        biased;
        () = sleep(Duration::from_secs(seconds)) => Ok(()),
        () = ctx.canceled() => Err(HandlerError::retry("interrupted")),
    }
}

fn long(worker: Worker) -> Worker {
    worker.handler("Echo", "1.0.0", work)
}

/// A job that takes as many seconds as its index says.
fn job(seconds: u64) -> JobGroup {
    JobGroup { timeout: Millis::from_mins(600), ..range(seconds, 1) }
}

fn lease(index: u64) -> LeaseWanted {
    LeaseWanted { index, attempt: 1, progress: None, details: None }
}

/// The jobs that leases are asked for.
fn indexes(leases: &Leases) -> Vec<u64> {
    leases.groups.iter().flat_map(|group| group.leases.iter().map(|lease| lease.index)).collect()
}

#[tokio::test(start_paused = true)]
async fn a_long_job_is_leased_and_its_message_is_let_go() {
    let mut bench = Bench::start(long).await;
    let began = Instant::now();
    bench.send(vec![job(3600)]).await;
    let (asked, at) = bench.answer_leases(Some(LEASE)).await;
    let waited = at.duration_since(began);
    assert!(waited >= Duration::from(LEASE_AFTER) && waited < Duration::from_secs(32), "{waited:?}");
    let [group] = &asked.groups[..] else { panic!("{asked:?}") };
    assert_eq!((group.run, group.entry, group.nonce, &*group.leases), (run(7), 2, job(0).nonce, &[lease(3600)][..]));
    assert_eq!(group.worker.as_deref(), Some("00000000-0000-0000-0000-0000000000aa"));
    bench.idle().await;
    // Renewed at a third of what it lasts, however long that goes on.
    let mut last = at;
    for _ in 0..50 {
        let (_, at) = bench.answer_leases(Some(LEASE)).await;
        let waited = at.duration_since(std::mem::replace(&mut last, at)).as_secs();
        assert!((20..=21).contains(&waited), "{waited} s");
    }
    // The message is gone: whoever comes after this worker does not get it.
    let broker = bench.kill().await;
    assert_eq!(broker.depth(&Address::Jobs(QUEUE.into())).await.unwrap(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_coordinator_queue_that_takes_nothing_keeps_no_other_from_being_asked() {
    let broker = MemoryBroker::new();
    let moody = Moody::on(&broker, 0, 1000);
    moody.clogs.set(|message| message.to == Address::Coordinator(1)).unwrap();
    let mut bench = Bench::start_on(Arc::new(broker), moody, long).await;
    bench.send(vec![JobGroup { coordinator: 1, ..job(3600) }]).await;
    bench.send(vec![job(3601)]).await;
    let (asked, _) = bench.answer_leases(Some(LEASE)).await;
    assert_eq!(indexes(&asked), [3601]);
    bench.idle().await;
    let broker = bench.kill().await;
    assert_eq!(broker.depth(&Address::Jobs(QUEUE.into())).await.unwrap(), 1, "the message of the leased job is gone");
}

#[tokio::test(start_paused = true)]
async fn the_outcome_of_a_leased_job_is_reported() {
    let mut bench = Bench::start(long).await;
    bench.send(vec![job(100)]).await;
    let began = Instant::now();
    for _ in 0..4 {
        bench.answer_leases(Some(LEASE)).await;
    }
    assert_eq!(bench.outcome().await.status, Status::Done);
    assert_eq!(began.elapsed().as_secs(), 100);
    assert_eq!(bench.unacknowledged().await, 0);
}

#[tokio::test(start_paused = true)]
async fn a_message_is_let_go_once_each_of_its_jobs_is_leased_or_reported() {
    let mut bench = Bench::start(long).await;
    // Started together; the last of them is done after 33 seconds.
    let late = JobGroup { entry: 3, ..job(33) };
    bench.send(vec![job(1), job(50), late]).await;
    assert_eq!(bench.outcome().await.index, 1);
    let (asked, _) = bench.answer_leases(None).await; // none is granted, and so both are stopped
    assert_eq!((indexes(&asked), asked.groups.len()), (vec![50, 33], 2));
    assert!(bench.outcomes(2).await.iter().all(|(_, outcome)| kind(outcome) == "canceled"));

    bench.send(vec![job(40), job(50)]).await;
    let asked: Leases = bench.told().await;
    assert_eq!(indexes(&asked), [40, 50]);
    let mut one = asked.groups[0].clone();
    one.leases.truncate(1);
    bench.answer(&one, Some(LEASE)).await;
    bench.idle().await;
    let broker = bench.broker.clone();
    bench.worker.abort();
    bench.worker.await.unwrap_err();
    assert_eq!(broker.depth(&Address::Jobs(QUEUE.into())).await.unwrap(), 1, "job 50 had no lease");
}

#[tokio::test(start_paused = true)]
async fn what_is_not_answered_is_asked_again_and_held() {
    let mut bench = Bench::start(long).await;
    bench.send(vec![job(600)]).await;
    let mut last: Option<Instant> = None;
    for _ in 0..20 {
        let asked: Leases = bench.told().await;
        assert_eq!(indexes(&asked), [600]);
        let waited = last.replace(Instant::now()).map_or(5, |last| last.elapsed().as_secs());
        assert_eq!(waited, 5);
    }
    let broker = bench.kill().await;
    assert_eq!(broker.depth(&Address::Jobs(QUEUE.into())).await.unwrap(), 1, "no lease, so it comes again");
}

#[tokio::test(start_paused = true)]
async fn an_attempt_that_no_longer_matters_is_stopped() {
    let mut bench = Bench::start(long).await;
    bench.send(vec![job(600)]).await;
    bench.answer_leases(Some(LEASE)).await;
    let (_, at) = bench.answer_leases(None).await;
    assert_eq!(kind(&bench.outcome().await), "canceled");
    assert_eq!(at.elapsed().as_secs(), 0);
    assert_eq!(bench.unacknowledged().await, 0);
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_ran_out_is_no_reason_to_stop() {
    let mut bench = Bench::start(long).await;
    bench.send(vec![job(600)]).await;
    bench.answer_leases(Some(LEASE)).await;
    assert_eq!(bench.outcome().await.status, Status::Done); // all the other questions were passed over
    assert_eq!(bench.unacknowledged().await, 0);
}

#[tokio::test(start_paused = true)]
async fn a_leased_job_is_canceled_like_any_other() {
    let mut bench = Bench::start(long).await;
    bench.send(vec![job(600)]).await;
    bench.answer_leases(Some(LEASE)).await;
    bench.idle().await;
    bench.publish(Address::Control, &CancelJobs { items: vec![CanceledEntry { run: run(7), entry: 2 }] }).await;
    assert_eq!(kind(&bench.outcome().await), "canceled");
    assert_eq!(bench.unacknowledged().await, 0);
}

#[tokio::test(start_paused = true)]
async fn leases_are_asked_for_together_by_coordinator() {
    let mut bench = Bench::start(long).await;
    let mut other = Reader::of(&*bench.broker, Address::Coordinator(3)).await;
    bench.send(vec![job(100), job(101), JobGroup { run: run(8), ..job(102) }]).await;
    for seconds in [103, 104, 105] {
        sleep(Duration::from_millis(200)).await;
        bench.send(vec![job(seconds), JobGroup { coordinator: 3, ..job(seconds + 10) }]).await;
    }
    let (asked, first) = bench.answer_leases(Some(LEASE)).await;
    assert_eq!((indexes(&asked), asked.groups.len()), (vec![100, 101, 102], 2), "one group for each entry");
    // No more than one question in a second.
    let (asked, second) = bench.answer_leases(Some(LEASE)).await;
    assert_eq!((indexes(&asked), asked.groups.len()), (vec![103, 104, 105], 1));
    assert_eq!(second.duration_since(first).as_secs(), 1);
    assert_eq!(indexes(&other.body().await), [113, 114, 115]);
}

#[tokio::test(start_paused = true)]
async fn progress_is_told_soon_and_not_too_often() {
    let handler = |_: u64, ctx: Context| async move {
        ctx.progress(3);
        sleep(Duration::from_secs(45)).await; // leased by now, and renewed after 50 s
        for percent in 4..=99 {
            ctx.progress(percent);
            sleep(Duration::from_millis(20)).await;
        }
        ctx.progress(200);
        ctx.progress(100);
        sleep(Duration::from_secs(100)).await;
        Ok::<_, HandlerError>(())
    };
    let mut bench = Bench::start(|worker| worker.handler("Echo", "1.0.0", handler)).await;
    let began = Instant::now();
    bench.send(vec![job(0)]).await;
    let mut told = Vec::new();
    for _ in 0..4 {
        let (asked, at) = bench.answer_leases(Some(LEASE)).await;
        told.push((at.duration_since(began).as_secs(), asked.groups[0].leases[0].progress.unwrap()));
    }
    let [(30 | 31, 3), (46, some), (47..=49, 100), (67..=70, 100)] = told[..] else { panic!("{told:?}") };
    assert!((4..100).contains(&some), "{told:?}");
}

/// What answers say that nobody waits for, or nobody understands.
#[tokio::test(start_paused = true)]
async fn stray_answers_change_nothing() {
    let mut bench = Bench::start(long).await;
    bench.send(vec![job(100)]).await;
    let asked: Leases = bench.told().await;
    let group = &asked.groups[0];
    let answer = |leased| LeasesAnswered {
        run: group.run,
        entry: group.entry,
        nonce: group.nonce,
        handler: group.handler.clone(),
        answers: vec![LeaseAnswer { index: 100, attempt: 1, leased }],
    };
    let mut strays = [answer(None), answer(None), answer(None), answer(None), answer(None)];
    strays[0].run = run(8);
    strays[1].entry = 3;
    strays[2].nonce.0 += 1;
    strays[3].answers[0].attempt = 2;
    strays[4].answers[0].index = 1;
    let body = |answered: &LeasesAnswered| (LeasesAnswered::KIND, message::encode(answered));
    let mut messages: Vec<_> = strays.iter().map(body).collect();
    messages.push((LeasesAnswered::KIND, b"no answer".to_vec()));
    messages.push(("ProgressWanted", b"{}".to_vec()));
    for (kind, body) in messages {
        bench.broker.reply(&group.reply.queue, Message::new(Address::Submit, kind, body)).await.unwrap();
    }
    assert_eq!(bench.outcome().await.status, Status::Done);
    // And one that comes when all is over.
    bench
        .broker
        .reply(&group.reply.queue, Message::new(Address::Submit, LeasesAnswered::KIND, body(&answer(Some(LEASE))).1))
        .await
        .unwrap();
    bench.idle().await;
    assert_eq!(bench.unacknowledged().await, 0);
}

/// The acknowledgement of a leased job's message is lost with the connection: the message comes again to the worker that
/// still works on it, and is acknowledged at once. The same for a copy that was published twice.
#[tokio::test(start_paused = true)]
async fn the_message_of_a_leased_job_that_comes_again_is_acknowledged_at_once() {
    for redelivered in [true, false] {
        let broker = Arc::new(MemoryBroker::new());
        let second = Address::Jobs("second".into());
        let mut dying = Reader::of(&broker.connect(), second.clone()).await;
        if redelivered {
            publish(&*broker, second.clone(), &Jobs { groups: vec![job(300)] }).await;
            dying.take().await;
        }
        let workers = Arc::new(broker.connect());
        let mut bench = Bench::start_on(broker, workers, |worker| long(worker).queue("second")).await;
        bench.send(vec![job(300)]).await;
        bench.answer_leases(Some(LEASE)).await;
        bench.idle().await;
        drop(dying);
        if !redelivered {
            bench.publish(second.clone(), &Jobs { groups: vec![job(300)] }).await;
        }
        bench.idle().await;
        let broker = bench.kill().await;
        assert_eq!(broker.depth(&second).await.unwrap(), 0, "{redelivered}");
        assert_eq!(broker.depth(&Address::Jobs(QUEUE.into())).await.unwrap(), 0, "{redelivered}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_drain_waits_for_leased_jobs_and_renews_their_leases() {
    let mut bench = Bench::start(|worker| long(worker).drain_timeout(Duration::from_secs(60))).await;
    bench.send(vec![job(75)]).await;
    bench.answer_leases(Some(LEASE)).await;
    bench.idle().await;
    bench.stop.cancel();
    bench.answer_leases(Some(LEASE)).await;
    bench.answer_leases(Some(LEASE)).await;
    assert_eq!(bench.outcome().await.status, Status::Done);
    assert_eq!(bench.unacknowledged().await, 0);
}

#[tokio::test(start_paused = true)]
async fn a_drain_hands_leased_jobs_back_and_waits_for_the_confirm() {
    let mut bench = Bench::start(|worker| long(worker).drain_timeout(Duration::from_secs(5))).await;
    bench.send(vec![job(600)]).await;
    bench.answer_leases(Some(LEASE)).await;
    bench.idle().await;
    bench.stop.cancel();
    let outcome = bench.outcome().await;
    assert_eq!((outcome.status, kind(&outcome)), (Status::Returned, "draining"));
    assert!(bench.worker.await.unwrap().is_ok());
}

/// RabbitMQ takes messages away that are held for 30 minutes, and a worker that asks for work and hands it back all the
/// time keeps others from it.
#[tokio::test(start_paused = true)]
async fn a_worker_with_every_slot_leased_keeps_quiet_and_holds_nothing_for_long() {
    let mut bench = Bench::start(|worker| long(worker).concurrency(1)).await;
    bench.send(vec![job(7200)]).await;
    bench.answer_leases(Some(LEASE)).await;
    let began = Instant::now();
    let mut handed_back = Vec::new();
    while began.elapsed() < Duration::from_secs(3600) {
        bench.send(vec![job(1)]).await;
        assert_eq!(kind(&bench.outcome().await), "busy");
        handed_back.push(began.elapsed());
    }
    let longest = handed_back.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap();
    assert!((5..=20).contains(&handed_back.len()), "{handed_back:?}");
    assert!(longest < Duration::from_secs(600), "{longest:?}");
}

#[tokio::test(start_paused = true)]
async fn leases_can_be_taken_earlier() {
    let mut bench = Bench::start(|worker| long(worker).lease_after(Duration::from_millis(300))).await;
    let began = Instant::now();
    bench.send(vec![job(2)]).await;
    bench.answer_leases(Some(Millis(900))).await;
    let (_, at) = bench.answer_leases(Some(Millis(900))).await;
    let waited = at.duration_since(began).as_millis();
    assert!((600..700).contains(&waited), "{waited}");
    assert_eq!(bench.outcome().await.status, Status::Done);
    assert_eq!(bench.unacknowledged().await, 0);
}
