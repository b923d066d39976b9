//! The task behind one subscription: takes deliveries in for its session, and settles them with the broker. Decides
//! nothing about either.

use std::sync::Arc;

use phasework_broker::{BrokerError, Consumer, DeliveryTag};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::oneshot;

use super::session::Label;
use super::sessions::Session;

/// The most deliveries taken in one go.
const AT_ONCE: usize = 256;

/// What the session wants done.
pub(super) enum Order {
    Ack(Vec<DeliveryTag>),
    Release(Vec<DeliveryTag>),
    /// Take nothing new, and say when everything that had arrived is taken in.
    Stop(oneshot::Sender<()>),
    /// Give everything back, and say so.
    Leave(oneshot::Sender<()>),
}

pub(super) struct Feeder {
    pub(super) session: Arc<Session>,
    pub(super) label: Label,
    pub(super) consumer: Box<dyn Consumer>,
}

impl Feeder {
    /// Feeds the session until it or the broker ends, or wants no more of this subscription. What was to be settled
    /// before that is.
    pub(super) async fn run(mut self, mut orders: UnboundedReceiver<Order>) {
        let mut is_stopped = false;
        loop {
            let has_room = self.session.has_room();
            tokio::select! {
                biased;
                order = orders.recv() => match order {
                    None => return,
                    Some(Order::Leave(done)) => {
                        drop(self.consumer);
                        let _given_up = done.send(());
                        return;
                    }
                    Some(Order::Stop(done)) => {
                        self.stop().await;
                        is_stopped = true;
                        let _given_up = done.send(());
                    }
                    Some(Order::Ack(tags)) => self.settled(self.consumer.ack(&tags).await),
                    Some(Order::Release(tags)) => self.settled(self.consumer.release(&tags).await),
                },
                taken = self.consumer.next(AT_ONCE), if has_room && !is_stopped => match taken {
                    Ok(deliveries) => self.session.arrive(&self.label, deliveries),
                    Err(error) => {
                        // The reader opens another session, and hears there what is wrong with this subscription.
                        self.session.end(&format!("what it read `{}` from ended: {error}", self.label.name));
                        is_stopped = true;
                    }
                },
                () = self.session.room(), if !has_room && !is_stopped => {}
            }
        }
    }

    async fn stop(&mut self) {
        if let Err(error) = self.consumer.stop().await {
            tracing::debug!(%error, "a subscription ended before it could be stopped");
        }
        while let Ok(deliveries) = self.consumer.next(AT_ONCE).await {
            self.session.arrive(&self.label, deliveries);
        }
    }

    /// What could not be settled comes again.
    fn settled(&self, settled: Result<(), BrokerError>) {
        if let Err(error) = settled {
            tracing::debug!(%error, subscription = &*self.label.name, "not settled");
        }
    }
}
