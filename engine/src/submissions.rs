//! Submissions from any AMQP client: each is checked, handed on to the owner of its run, and answered by that owner. One
//! is acknowledged as soon as it is handed on; those for a coordinator queue that takes nothing hold up no other.

use std::sync::Arc;
use std::time::Duration;

use phasework_broker::{Address, Consumer, Delivery, DeliveryTag, Message, PublishError, SharedBroker, Subscription};
use phasework_workflows::id::RunId;
use phasework_workflows::message::event::{Refused, ReplyTo, StartRun, StartRuns};
use phasework_workflows::message::submission::Submit;
use phasework_workflows::message::{Body, decode, encode};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::dead;
use crate::engine::{AMQP, Engine, EngineError, NAMESPACE, Request, Submission, ToRun};
use crate::lanes::{HELD_FOR, Lanes};

/// How many submissions are held at most: those of which it is not known yet whether they were handed on. Once so many
/// are for queues that take nothing, no more are taken.
const PREFETCH: u16 = 200;

/// How many are looked at in one go, and how many go in one publish.
const AT_ONCE: usize = 100;

/// How long nothing more is taken after the store was away.
const PAUSE: Duration = Duration::from_secs(1);

/// Where a submission is handed on to: the coordinator queue of its run, or the dead letters.
type To = Option<u16>;

/// A delivery, what it comes to, and since when it is held.
struct Item {
    tag: DeliveryTag,
    message: Message,
    since: Instant,
}

type Done = Vec<(Item, Result<(), PublishError>)>;

/// Takes submissions until `shutdown`.
pub(crate) async fn run(engine: Engine, shutdown: CancellationToken) {
    let broker = Arc::clone(&engine.parts.broker);
    let subscription = Subscription { from: Address::Submit, prefetch: PREFETCH };
    let Some(mut consumer) = crate::supervisor::subscribe(&broker, &subscription, &shutdown).await else { return };
    let mut lanes = Lanes::<To, Item, Done>::new(AT_ONCE);
    let (mut generation, mut paused_until) = (0, Instant::now());
    loop {
        let is_paused = Instant::now() < paused_until;
        tokio::select! {
            biased;
            () = shutdown.cancelled() => break,
            Some((to, done)) = lanes.done() => settle(&mut lanes, consumer.as_ref(), to, done).await,
            () = tokio::time::sleep_until(paused_until), if is_paused => {}
            deliveries = consumer.next(AT_ONCE), if !is_paused => {
                let Ok(deliveries) = deliveries else { return };
                generation = deliveries.iter().map(|delivery| delivery.tag.generation).max().unwrap_or(generation);
                if take(&engine, &mut lanes, consumer.as_ref(), &deliveries).await == Taken::NotAll {
                    paused_until = Instant::now() + PAUSE;
                }
            }
        }
        lanes.begin(|_, mut items, wait| {
            // Those that came over a connection that is lost come again.
            items.retain(|item| item.tag.generation >= generation);
            publish(Arc::clone(&broker), items, wait, shutdown.clone())
        });
    }
    // What is under way is waited for: a submission that is handed on should not come again without need.
    while let Some((_, done)) = lanes.done().await {
        acknowledge(consumer.as_ref(), &done).await;
    }
}

#[derive(PartialEq, Eq)]
enum Taken {
    All,
    /// Some have to wait, and were given back.
    NotAll,
}

/// Reads submissions, and puts what they come to into the lanes.
async fn take(
    engine: &Engine,
    lanes: &mut Lanes<To, Item, Done>,
    consumer: &dyn Consumer,
    deliveries: &[Delivery],
) -> Taken {
    let (mut handled, mut later, since) = (Vec::new(), Vec::new(), Instant::now());
    for delivery in deliveries {
        let tag = delivery.tag;
        match hand_on(engine, delivery).await {
            Ok((queue, message)) => lanes.put(Some(queue), Item { tag, message, since }),
            Err(EngineError::Unavailable(error)) => {
                tracing::warn!(%error, "a submission has to wait");
                later.push(tag);
            }
            Err(error) => match refuse(engine, delivery, &error).await {
                Some(message) => lanes.put(None, Item { tag, message, since }),
                None => handled.push(tag),
            },
        }
    }
    if let Err(error) = consumer.ack(&handled).await.and(consumer.release(&later).await) {
        tracing::debug!(%error, "submissions could not be acknowledged; they come again");
    }
    if later.is_empty() { Taken::All } else { Taken::NotAll }
}

/// Publishes what goes to one queue, after a wait; at once when it is to stop.
async fn publish(broker: SharedBroker, items: Vec<Item>, wait: Duration, shutdown: CancellationToken) -> Done {
    tokio::select! {
        biased;
        () = tokio::time::sleep(wait) => {}
        () = shutdown.cancelled() => {}
    }
    let results = broker.publish(items.iter().map(|item| item.message.clone()).collect()).await;
    items.into_iter().zip(results).collect()
}

/// Acknowledges what was handed on; the rest is kept for a while and tried again, later and later.
async fn settle(lanes: &mut Lanes<To, Item, Done>, consumer: &dyn Consumer, to: To, done: Done) {
    acknowledge(consumer, &done).await;
    let unsent = done.into_iter().filter(|(_, result)| result.is_err()).map(|(item, _)| item);
    let (unsent, over): (Vec<_>, Vec<_>) = unsent.partition(|item| item.since.elapsed() < HELD_FOR);
    if unsent.is_empty() && over.is_empty() {
        return lanes.goes_well(to);
    }
    tracing::warn!(queue = to, submissions = unsent.len() + over.len(), "not handed on yet; trying again");
    lanes.put_back(to, unsent);
    let over: Vec<_> = over.iter().map(|item| item.tag).collect();
    if let Err(error) = consumer.release(&over).await {
        tracing::debug!(%error, "submissions could not be given back; they come again");
    }
}

async fn acknowledge(consumer: &dyn Consumer, done: &Done) {
    let handed_on: Vec<_> = done.iter().filter(|(_, result)| result.is_ok()).map(|(item, _)| item.tag).collect();
    if let Err(error) = consumer.ack(&handed_on).await {
        tracing::debug!(%error, "submissions could not be acknowledged; they come again");
    }
}

/// The order to the run's owner that a submission comes to, and the owner's queue.
async fn hand_on(engine: &Engine, delivery: &Delivery) -> Result<(u16, Message), EngineError> {
    let submit = decode::<Submit>(&delivery.body).map_err(|error| EngineError::Invalid(error.to_string()))?;
    let what = match (submit.workflow, submit.definition) {
        (Some(_), Some(_)) => {
            return Err(EngineError::Invalid("give `workflow` or `definition`, not both".into()));
        }
        (Some(name), None) => ToRun::Workflow(name, submit.revision),
        (None, Some(definition)) => ToRun::Definition(definition.as_json().to_owned()),
        (None, None) => ToRun::Nothing,
    };
    let has_key = submit.key.is_some();
    let submission = Submission { what, data: submit.data, key: submit.key };
    let trace = delivery.headers.iter().find(|(name, _)| &**name == "traceparent").map(|(_, value)| &**value);
    let mut start: StartRun = engine.prepare(submission, Request { trace, actor: Some(AMQP) }).await?;
    if let (false, Some(id)) = (has_key, &delivery.id) {
        // Without a key the message's own id keeps a redelivered submission from starting a second run.
        start.run = RunId::from_key(&format!("{NAMESPACE}/message"), &start.workflow, id);
    }
    start.reply = delivery
        .reply_to
        .as_ref()
        .map(|queue| ReplyTo { queue: Arc::clone(queue), correlation_id: delivery.correlation_id.clone() });
    let queue = start.run.shard().queue(engine.parts.config.coordinator_queues);
    let order = Message::new(Address::Coordinator(queue), StartRuns::KIND, encode(&StartRuns { items: vec![start] }));
    Ok((queue, order))
}

/// Tells the submitter why not. Without a `reply-to` nobody would know, so the submission becomes a dead letter.
async fn refuse(engine: &Engine, delivery: &Delivery, error: &EngineError) -> Option<Message> {
    let refused = refusal(error);
    let Some(reply_to) = &delivery.reply_to else {
        let reason = std::iter::once(refused.message).chain(refused.problems).collect::<Vec<_>>().join("\n");
        return Some(dead::letter(&engine.parts, &Address::Submit, delivery, reason));
    };
    let mut answer = Message::new(Address::Submit, Refused::KIND, encode(&refused));
    answer.correlation_id.clone_from(&delivery.correlation_id);
    if let Err(error) = engine.parts.broker.reply(reply_to, answer).await {
        tracing::info!(%error, "a refusal could not be delivered");
    }
    None
}

/// A refusal, as it is sent.
fn refusal(error: &EngineError) -> Refused {
    let (code, problems) = match error {
        EngineError::NotFound(_) => ("unknown-workflow", Vec::new()),
        EngineError::Invalid(_) => ("malformed", Vec::new()),
        EngineError::InvalidDefinition(problems) => {
            ("invalid-definition", problems.problems.iter().map(ToString::to_string).collect())
        }
        EngineError::TooLarge { .. } => ("too-large", Vec::new()),
        EngineError::Damaged(_) => ("damaged", Vec::new()),
        EngineError::Unavailable(_) => ("unavailable", Vec::new()),
    };
    Refused { code: code.into(), message: error.to_string(), problems }
}
