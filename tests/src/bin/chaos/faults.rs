//! Lets faults strike, each at its time, and notes when it struck and when it was over.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use phasework_workflows::time::{Clock as _, SystemClock, Timestamp};
use tokio::time::{Instant, sleep, sleep_until};

use crate::proxy::Proxy;
use crate::schedule::{Fault, Part, Planned};
use crate::site::Site;

/// How often to look whether a process has ended by itself.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// A fault that struck.
#[derive(Clone, Debug)]
pub(crate) struct Strike {
    pub(crate) fault: Fault,
    /// When it struck.
    pub(crate) at: Timestamp,
    /// When everything was there again. What it did may last: a connection that is half-open stays so.
    pub(crate) over: Timestamp,
}

/// All that struck.
pub(crate) struct Struck(pub(crate) Vec<Strike>);

impl Struck {
    /// When the last one was over.
    pub(crate) fn over(&self) -> Timestamp {
        self.0.iter().map(|strike| strike.over).max().unwrap_or(Timestamp::from_millis(0))
    }

    /// When the first one struck.
    pub(crate) fn began(&self) -> Timestamp {
        self.0.iter().map(|strike| strike.at).min().unwrap_or(Timestamp::from_millis(0))
    }
}

/// Lets everything strike that is planned; returns when the last one is over.
pub(crate) async fn strike(site: &Site, schedule: &[Planned]) -> Result<Struck> {
    let begun = Instant::now();
    let mut striking: FuturesUnordered<_> = schedule
        .iter()
        .map(|planned| async move {
            sleep_until(begun + planned.at).await;
            inject(site, planned.fault, begun).await.with_context(|| format!("{:?}", planned.fault))
        })
        .collect();
    let mut struck = Vec::new();
    loop {
        tokio::select! {
            biased;
            strike = striking.next() => match strike {
                Some(strike) => struck.push(strike?),
                None => return Ok(Struck(struck)),
            },
            () = sleep(LOOK_EVERY) => look(site).await?,
        }
    }
}

async fn look(site: &Site) -> Result<()> {
    for process in site.processes() {
        process.look().await?;
    }
    Ok(())
}

/// Does it, waits until it is over, says when that was.
async fn inject(site: &Site, fault: Fault, begun: Instant) -> Result<Strike> {
    let part = match fault {
        Fault::Restart(part) | Fault::Crash(part, _) | Fault::Lose(part) | Fault::Fill(part, _) => Some(part),
        _ => None,
    };
    // One thing at a time is done to a server; connections break whenever they like.
    let _turn = match part {
        Some(part) => Some(site.turn(part).await),
        None => None,
    };
    if let Fault::Cut(part, _) | Fault::Stall(part, ..) | Fault::HalfOpen(part, _) = fault {
        until_carrying(site.proxy(part)).await?;
    }
    let at = SystemClock.now();
    let from = begun.elapsed().as_secs_f64();
    println!("chaos: {from:5.1} s  {fault:?}");
    match fault {
        Fault::Kill(program, down) => site.process(program).kill(down).await?,
        Fault::Freeze(program, length) => site.process(program).freeze(length).await?,
        Fault::Restart(Part::Broker) => {
            site.with_broker(|broker| broker.stop().map_err(Into::into).and_then(|()| broker.start())).await?;
        }
        Fault::Restart(Part::Store) => {
            site.with_store(|store| store.stop().map_err(Into::into).and_then(|()| store.start())).await?;
        }
        Fault::Crash(part, down) => crash(site, part, down).await?,
        Fault::Lose(Part::Broker) => {
            site.with_broker(|broker| {
                broker.kill();
                std::fs::remove_dir_all(broker.data())?;
                broker.start()
            })
            .await?;
        }
        Fault::Lose(Part::Store) => bail!("runs are lost with it"),
        Fault::Cut(part, one_in) => site.proxy(part).cut(one_in),
        Fault::Stall(part, one_in, length) => {
            let held = site.proxy(part).hold(one_in);
            sleep(length).await;
            site.proxy(part).resume(&held);
        }
        Fault::HalfOpen(part, one_in) => drop(site.proxy(part).hold(one_in)),
        Fault::Fill(part, length) => fill(site, part, length).await?,
    }
    let to = begun.elapsed().as_secs_f64();
    if to > from + 1.0 {
        println!("chaos: {to:5.1} s  over after {:.1} s: {}", to - from, fault.kind());
    }
    Ok(Strike { fault, at, over: SystemClock.now() })
}

/// A connection that is not there cannot break: waits until others have come back.
async fn until_carrying(proxy: &Proxy) -> Result<()> {
    let begun = Instant::now();
    while proxy.carrying() == 0 {
        if begun.elapsed() > Duration::from_secs(60) {
            bail!("nobody connects any more");
        }
        sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}

async fn crash(site: &Site, part: Part, down: Duration) -> Result<()> {
    match part {
        Part::Broker => {
            let kill = |broker: &mut xtask::rabbitmq::RabbitMq| {
                broker.kill();
                Ok(())
            };
            site.with_broker(kill).await?;
            sleep(down).await;
            site.with_broker(xtask::rabbitmq::RabbitMq::start).await
        }
        Part::Store => {
            let kill = |store: &mut xtask::redis::Redis| {
                store.kill();
                Ok(())
            };
            site.with_store(kill).await?;
            sleep(down).await;
            site.with_store(xtask::redis::Redis::start).await
        }
    }
}

/// Leaves no room, and gives it back.
async fn fill(site: &Site, part: Part, length: Duration) -> Result<()> {
    match part {
        Part::Broker => {
            let watermark = |share: &'static str| {
                move |broker: &mut xtask::rabbitmq::RabbitMq| broker.control(&["set_vm_memory_high_watermark", share])
            };
            site.with_broker(watermark("0.0001")).await?;
            sleep(length).await;
            site.with_broker(watermark("0.4")).await
        }
        Part::Store => {
            let client = redis::Client::open(site.store_url())?;
            let mut connection = client.get_multiplexed_async_connection().await?;
            let mut set = redis::cmd("CONFIG");
            set.arg("SET").arg("maxmemory");
            set.clone().arg(1).query_async::<()>(&mut connection).await?;
            sleep(length).await;
            set.arg(0).query_async::<()>(&mut connection).await?;
            Ok(())
        }
    }
}
