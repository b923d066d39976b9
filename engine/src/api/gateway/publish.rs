//! What workers publish: each message for itself, whatever becomes of the others in its request.

use axum::Json as Answer;
use axum::extract::{Request, State};
use futures::future::join_all;
use phasework_broker::Address;
use phasework_broker::gateway::address;
use phasework_broker::gateway::wire::{Addressed, Publish, PublishResult, Published, Results};

use super::super::error::ApiError;
use super::{Gateway, body};

/// How many messages go into one request.
const MAX_MESSAGES: usize = 10_000;

pub(super) async fn publish(State(gateway): State<Gateway>, request: Request) -> Result<Answer<Results>, ApiError> {
    let (body, _kept) = gateway.budget.read(request).await?;
    let Publish { messages } = body::parse(&body)?;
    if messages.len() > MAX_MESSAGES {
        return Err(ApiError::too_large(format!("{} messages; at most {MAX_MESSAGES} in one request", messages.len())));
    }
    let mut results = vec![PublishResult::Confirmed; messages.len()];
    let (mut plain, mut places, mut replies) = (Vec::with_capacity(messages.len()), Vec::new(), Vec::new());
    for (place, message) in messages.into_iter().enumerate() {
        match gateway.admit(message) {
            Ok(Addressed::Message(message)) => {
                plain.push(message);
                places.push(place);
            }
            Ok(Addressed::Reply(queue, message)) => replies.push((place, queue, message)),
            Err(result) => results[place] = result,
        }
    }
    let broker = &gateway.broker;
    let replying = replies.iter().map(|(_, queue, message)| broker.reply(queue, message.clone()));
    let (published, replied) = tokio::join!(broker.publish(plain), join_all(replying));
    for (place, result) in places.into_iter().zip(published) {
        results[place] = result.into();
    }
    for ((place, ..), result) in replies.iter().zip(replied) {
        results[*place] = result.into();
    }
    Ok(Answer(Results { results }))
}

impl Gateway {
    /// A message, if it may be published; what becomes of it otherwise.
    fn admit(&self, message: Published<'_>) -> Result<Addressed, PublishResult> {
        let refused = |message: String| PublishResult::Refused { message };
        let policy = self.config.policy;
        let addressed = message.into_message().map_err(refused)?;
        match &addressed {
            Addressed::Message(message) if policy.may_publish(message) => match self.not_there(&message.to) {
                Some(message) => Err(PublishResult::Unconfirmed { message }),
                None => Ok(addressed),
            },
            Addressed::Message(message) => {
                Err(refused(format!("workers send no `{}` to `{}`", message.kind, address::text(&message.to))))
            }
            Addressed::Reply(..) if policy.may_see_queues() => Ok(addressed),
            Addressed::Reply(..) => Err(refused("workers send nothing to queues by `queue`".to_owned())),
        }
    }

    /// Why a message cannot go where it is to go now, although it may later: no such queue is known yet.
    fn not_there(&self, to: &Address) -> Option<String> {
        let Address::Coordinator(number) = *to else { return None };
        let known = self.coordinator_queues.as_ref()?.get();
        (number >= known).then(|| format!("there is no `{}` yet; {known} are known", address::text(to)))
    }
}
