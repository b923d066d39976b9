//! Tells in the log when the engine becomes able to work, when it no longer is, and why. Changes nothing: everybody waits
//! for what is away by themselves.

use std::time::Duration;

use phasework_engine::Engine;
use tokio_util::sync::CancellationToken;

/// How often to look.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// Looks until `shutdown`.
pub(crate) async fn watch(engine: Engine, shutdown: CancellationToken) {
    let mut told = None;
    let mut every = tokio::time::interval(LOOK_EVERY);
    every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        let looking = async {
            every.tick().await;
            engine.readiness().await
        };
        let reasons = tokio::select! {
            biased;
            () = shutdown.cancelled() => return,
            reasons = looking => reasons,
        };
        if told.as_ref() != Some(&reasons) {
            tell(&reasons);
        }
        told = Some(reasons);
    }
}

fn tell(reasons: &[String]) {
    if reasons.is_empty() {
        tracing::info!("ready: the broker and the store can be used");
    } else {
        tracing::warn!("not ready, and waiting: {}", reasons.join("; "));
    }
}
