//! How fast queues move: prints how many coordinator queues each coordinator owns while coordinators join, stop and die,
//! on a real RabbitMQ and Redis with the usual settings. `cargo xtask with cargo run -p phasework-tests --bin shares`.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use phasework_broker::rabbitmq::{RabbitMq, RabbitOptions};
use phasework_engine::engine::Parts;
use phasework_engine::{EngineConfig, RunningEngine};
use phasework_store::redis::{RedisOptions, RedisStore};
use phasework_workflows::id::{IdSource, SystemIds};
use phasework_workflows::run::apply;
use phasework_workflows::time::SystemClock;
use tokio::time::Instant;

/// How often the queues are counted.
const LOOK: Duration = Duration::from_millis(500);

/// What happens to a coordinator, and at which count of looks.
#[derive(Clone, Copy)]
enum Deed {
    Join,
    Stop,
    Kill,
}

const STORY: [(u32, usize, Deed); 6] = [
    (0, 0, Deed::Join),
    (10, 1, Deed::Join),
    (20, 2, Deed::Join),
    (20, 3, Deed::Join),
    (36, 0, Deed::Stop),
    (48, 1, Deed::Kill),
];

#[tokio::main]
async fn main() -> Result<()> {
    let broker = std::env::var("PHASEWORK_TEST_BROKER_URL").context("start this by `cargo xtask with`")?;
    let store = std::env::var("PHASEWORK_TEST_STORE_URL").context("start this by `cargo xtask with`")?;
    let prefix = format!("shares-{}", SystemIds.uuid().simple());
    let mut coordinators: [Option<RunningEngine>; 4] = [const { None }; 4];
    println!("seconds  first second third fourth  what happens");
    let mut next = Instant::now();
    for look in 0..70 {
        let mut words = Vec::new();
        for (_, who, deed) in STORY.iter().filter(|(at, ..)| *at == look) {
            let name = ["first", "second", "third", "fourth"][*who];
            match deed {
                Deed::Join => {
                    coordinators[*who] = Some(start(&broker, &store, &prefix, name).await?);
                    words.push(format!("the {name} joins"));
                }
                Deed::Stop => {
                    let began = Instant::now();
                    if let Some(engine) = coordinators[*who].take() {
                        engine.stop().await;
                    }
                    words.push(format!("the {name} stops, in {} ms", began.elapsed().as_millis()));
                }
                Deed::Kill => {
                    if let Some(engine) = coordinators[*who].take() {
                        let broker = Arc::clone(&engine.engine().parts().broker);
                        drop(engine);
                        broker.close().await;
                    }
                    words.push(format!("the {name} is killed"));
                }
            }
        }
        let owned = coordinators
            .each_ref()
            .map(|it| it.as_ref().map_or("-".to_owned(), |engine| engine.engine().queues_owned().to_string()));
        let [first, second, third, fourth] = owned;
        let seconds = f64::from(look) / 2.0;
        println!("{seconds:>7.1}  {first:>5} {second:>6} {third:>5} {fourth:>6}  {}", words.join(", "));
        next += LOOK;
        tokio::time::sleep_until(next).await;
    }
    for engine in coordinators.into_iter().flatten() {
        engine.stop().await;
    }
    Ok(())
}

async fn start(broker: &str, store: &str, prefix: &str, name: &str) -> Result<RunningEngine> {
    let broker = RabbitOptions { prefix: prefix.to_owned(), ..RabbitOptions::new(broker) };
    let store = RedisOptions { prefix: prefix.to_owned(), ..RedisOptions::new(store) };
    let parts = Parts {
        store: Arc::new(RedisStore::connect(&store)?),
        broker: Arc::new(RabbitMq::connect(broker).await?),
        clock: Arc::new(SystemClock),
        ids: Arc::new(SystemIds),
        decide: apply,
        config: Arc::new(EngineConfig::new(name)),
    };
    Ok(phasework_engine::start(parts)?)
}
