//! For brokers that stand around another one and differ from it in little: what they leave alone is written once.

/// Implements `Broker` for a wrapper whose first field is the broker within: with the methods given, and the rest handed
/// through.
macro_rules! broker_around {
    ($wrapper:ty { $($own:tt)* }) => {
        #[async_trait::async_trait]
        impl phasework_broker::Broker for $wrapper {
            $($own)*

            async fn reply(
                &self,
                reply_to: &str,
                message: phasework_broker::Message,
            ) -> Result<(), phasework_broker::PublishError> {
                self.0.reply(reply_to, message).await
            }

            fn name_of(&self, address: &phasework_broker::Address) -> String {
                self.0.name_of(address)
            }

            async fn depth(&self, queue: &phasework_broker::Address) -> Result<u64, phasework_broker::BrokerError> {
                self.0.depth(queue).await
            }

            async fn delete(&self, queue: &phasework_broker::Address) -> Result<(), phasework_broker::BrokerError> {
                self.0.delete(queue).await
            }

            fn health(&self) -> Result<(), phasework_broker::BrokerError> {
                self.0.health()
            }

            async fn close(&self) {
                self.0.close().await;
            }
        }
    };
}
pub(crate) use broker_around;
