//! Submissions from any AMQP client: each is checked, handed on to the owner of its run, and answered by that owner.

use std::sync::Arc;

use phasework_broker::{Address, Delivery, Message, Subscription};
use phasework_workflows::id::RunId;
use phasework_workflows::message::event::{Refused, ReplyTo, StartRun, StartRuns};
use phasework_workflows::message::submission::Submit;
use phasework_workflows::message::{Body, decode, encode};
use tokio_util::sync::CancellationToken;

use crate::dead;
use crate::engine::{Engine, EngineError, NAMESPACE, Submission, ToRun};

/// Takes submissions until `shutdown`.
pub(crate) async fn run(engine: Engine, shutdown: CancellationToken) {
    let broker = Arc::clone(&engine.parts.broker);
    let subscription = Subscription { from: Address::Submit, prefetch: 200 };
    let Some(mut consumer) = crate::supervisor::subscribe(&broker, &subscription, &shutdown).await else { return };
    loop {
        let deliveries = tokio::select! {
            biased;
            () = shutdown.cancelled() => return,
            deliveries = consumer.next(100) => deliveries,
        };
        let Ok(deliveries) = deliveries else { return };
        let mut messages = Vec::new();
        let (mut handled, mut later) = (Vec::new(), Vec::new());
        for delivery in &deliveries {
            match hand_on(&engine, delivery).await {
                Ok(message) => {
                    messages.push(message);
                    handled.push(delivery.tag);
                }
                Err(EngineError::Unavailable(error)) => {
                    tracing::warn!(%error, "a submission has to wait");
                    later.push(delivery.tag);
                }
                Err(error) => {
                    messages.extend(refuse(&engine, delivery, &error).await);
                    handled.push(delivery.tag);
                }
            }
        }
        let published = broker.publish(messages).await;
        if published.iter().any(Result::is_err) {
            // Some were handed on and some not: all come again, and starting a run twice does no harm.
            later.append(&mut handled);
        }
        let done = consumer.ack(&handled).await.and(consumer.release(&later).await);
        if let Err(error) = done {
            tracing::debug!(%error, "submissions could not be acknowledged; they come again");
        }
        if !later.is_empty() {
            let pause = tokio::time::sleep(std::time::Duration::from_secs(1));
            tokio::select! { biased; () = shutdown.cancelled() => return, () = pause => {} }
        }
    }
}

/// The order to the run's owner that a submission comes to.
async fn hand_on(engine: &Engine, delivery: &Delivery) -> Result<Message, EngineError> {
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
    let mut start: StartRun = engine.prepare(submission).await?;
    if let (false, Some(id)) = (has_key, &delivery.id) {
        // Without a key the message's own id keeps a redelivered submission from starting a second run.
        start.run = RunId::from_key(&format!("{NAMESPACE}/message"), &start.workflow, id);
    }
    start.reply = delivery
        .reply_to
        .as_ref()
        .map(|queue| ReplyTo { queue: Arc::clone(queue), correlation_id: delivery.correlation_id.clone() });
    let queue = start.run.shard().queue(engine.parts.config.coordinator_queues);
    Ok(Message::new(Address::Coordinator(queue), StartRuns::KIND, encode(&StartRuns { items: vec![start] })))
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
        EngineError::Unavailable(_) => ("unavailable", Vec::new()),
    };
    Refused { code: code.into(), message: error.to_string(), problems }
}
