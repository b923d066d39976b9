//! Listing runs, the one made last first, out of the lists of all shards. Members begin with the time, so a place among
//! them is exact, however many runs are of one time.

use phasework_workflows::id::Shard;
use redis::Value;

use super::keys::{Keys, ShardKeys};
use super::link::{Lane, Link, read};
use super::record::{HEADER, Header, member, member_run, member_time};
use crate::{ListedRun, RunFilter, StoreError};

/// One list of one shard, as far as it was read.
struct Source {
    shard: ShardKeys,
    is_ended: bool,
    /// What follows is before this member; `+` is before the first.
    before: String,
    /// How many members are asked for next.
    count: usize,
    /// Whether nothing follows.
    is_exhausted: bool,
}

/// Runs, newest first, each with its head.
pub(super) async fn runs(link: &Link, keys: &Keys, filter: &RunFilter) -> Result<Vec<ListedRun>, StoreError> {
    let mut before = filter.before.map_or("+".to_owned(), |(at, run)| format!("({}", member(at, run)));
    let mut found = Vec::new();
    while found.len() < filter.limit {
        let wanted = filter.limit - found.len();
        let page = page(link, keys, filter.ended, &before, wanted).await?;
        let Some(last) = page.last() else { break };
        before = format!("({last}");
        let is_last = page.len() < wanted;
        // Runs that were removed in between have no head any more, and others come in their place.
        found.extend(heads(link, keys, &page).await?);
        if is_last {
            break;
        }
    }
    Ok(found)
}

/// The first `limit` members of all lists that come after a place.
async fn page(
    link: &Link,
    keys: &Keys,
    ended: Option<bool>,
    before: &str,
    limit: usize,
) -> Result<Vec<String>, StoreError> {
    // Runs are spread evenly, so each list has few of the page; where that is wrong, it is asked again for more.
    let count = 4 + limit.min(100_000) / 64;
    let mut sources = Vec::new();
    // Live ones first: a run that ends in between is then met twice rather than never.
    for is_ended in [false, true].into_iter().filter(|&is_ended| ended.is_none_or(|wanted| wanted == is_ended)) {
        sources.extend(Shard::all().map(|shard| Source {
            shard: keys.shard(shard),
            is_ended,
            before: before.to_owned(),
            count,
            is_exhausted: false,
        }));
    }
    let mut members: Vec<String> = Vec::new();
    loop {
        let end = members.get(limit.saturating_sub(1)).map(String::as_str);
        let mut asked: Vec<_> = sources.iter_mut().filter(|source| source.may_precede(end)).collect();
        if asked.is_empty() {
            return Ok(members);
        }
        let read = read_on(link, &mut asked).await?;
        members.extend(read);
        members.sort_unstable_by(|a, b| b.cmp(a));
        members.dedup();
        members.truncate(limit);
    }
}

impl Source {
    /// Whether it may hold members that come before `end`.
    fn may_precede(&self, end: Option<&str>) -> bool {
        let reached = self.before.strip_prefix('(');
        !self.is_exhausted && end.is_none_or(|end| reached.is_none_or(|reached| reached > end))
    }
}

/// Reads the next members of lists.
async fn read_on(link: &Link, sources: &mut [&mut Source]) -> Result<Vec<String>, StoreError> {
    let mut commands = redis::pipe();
    for source in &*sources {
        let key = if source.is_ended { source.shard.ended() } else { source.shard.live() };
        let command = commands.cmd("ZREVRANGEBYLEX").arg(key).arg(&source.before).arg("-");
        command.arg("LIMIT").arg(0).arg(source.count);
    }
    let mut members = Vec::new();
    for (source, answer) in sources.iter_mut().zip(link.send(Lane::Pooled, &commands).await?) {
        let next: Vec<String> = read(answer)?;
        source.is_exhausted = next.len() < source.count;
        source.count = source.count.saturating_mul(4).min(10_000);
        if let Some(last) = next.last() {
            source.before = format!("({last}");
        }
        members.extend(next);
    }
    Ok(members)
}

/// The runs of these members that are there, with their heads.
async fn heads(link: &Link, keys: &Keys, members: &[String]) -> Result<Vec<ListedRun>, StoreError> {
    let mut commands = redis::pipe();
    let mut runs = Vec::with_capacity(members.len());
    for member in members {
        let (created_at, run) = (member_time(member)?, member_run(member)?);
        commands.cmd("GET").arg(keys.run(run).record());
        runs.push((created_at, run));
    }
    let answers = link.send(Lane::Pooled, &commands).await?;
    let head = |answer: Value| -> Result<Option<Vec<u8>>, StoreError> {
        let Some(mut record) = read::<Option<Vec<u8>>>(answer)? else { return Ok(None) };
        Header::read(&record).map(|_| Some(record.split_off(HEADER)))
    };
    let listed = |((created_at, run), answer)| match head(answer) {
        Ok(head) => Some(Ok(ListedRun { run, created_at, head: head? })),
        Err(StoreError::Corrupt(_)) => Some(Ok(ListedRun { run, created_at, head: Vec::new() })),
        Err(error) => Some(Err(error)),
    };
    runs.into_iter().zip(answers).filter_map(listed).collect()
}
