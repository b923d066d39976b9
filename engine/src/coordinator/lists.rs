//! Where the jobs of a list are stored that a handler makes itself. Its pages have as many jobs as their maker liked, so
//! they are stored in blocks: of a power of two, beginning at a multiple of their size. So a job's block is found in a
//! few looks, whatever the pages were, and a page that comes twice is written to the same places.

use phasework_store::StoreError;
use phasework_workflows::Payload;
use phasework_workflows::id::{EntryNo, JobIndex, Nonce, RunId};
use phasework_workflows::run::{Event, Head};

use crate::engine::Engine;

/// The most jobs of a block.
const BLOCK_JOBS: u64 = 1024;

/// Stores a page that was taken, ahead of the commit that says so: what the commit counts is there.
pub(super) async fn put_page(engine: &Engine, head: &Head, event: &Event) -> Result<(), StoreError> {
    let Event::JobsListed { entry, handler, first, items: Ok(items), .. } = event else { return Ok(()) };
    let place = head.entry.handlers.iter().zip(0_u16..).find(|(it, _)| it.name == *handler);
    // None is taken where that page was one too many.
    let Some((list, place)) = place.and_then(|(it, place)| Some((it.enumeration?.list?, place))) else {
        return Ok(());
    };
    let mut rest = items.as_slice();
    let pages = blocks(*first, items.len() as u64).map(|(first, jobs)| {
        let (block, others) = rest.split_at((jobs as usize).min(rest.len()));
        rest = others;
        (first, block.to_vec())
    });
    let pages: Vec<(JobIndex, Vec<Payload>)> = pages.collect();
    engine.parts.store.put_inputs(head.id, *entry, list, place, pages).await
}

/// The inputs of the jobs of a sealed list from one on, as far as its block goes; none when they are gone.
pub(crate) async fn inputs_from(
    engine: &Engine,
    run: RunId,
    (entry, list, handler): (EntryNo, Nonce, u16),
    index: JobIndex,
) -> Result<Option<Vec<Payload>>, StoreError> {
    for first in places_of(index) {
        let block = engine.parts.store.inputs(run, entry, list, handler, first).await?;
        let Some(mut block) = block else { return Ok(None) };
        let at = usize::try_from(index - first).unwrap_or(usize::MAX);
        if at < block.len() {
            return Ok(Some(block.split_off(at)));
        }
    }
    Ok(None)
}

/// The blocks of so many jobs from `first` on: where each begins, and how many jobs it has.
fn blocks(first: JobIndex, jobs: u64) -> impl Iterator<Item = (JobIndex, u64)> {
    let (mut at, end) = (first, first.saturating_add(jobs));
    std::iter::from_fn(move || {
        let left = end.checked_sub(at).filter(|&left| left > 0)?;
        let aligned = if at == 0 { BLOCK_JOBS } else { 1 << at.trailing_zeros().min(BLOCK_JOBS.ilog2()) };
        let block = (at, aligned.min(1 << left.ilog2()));
        at += block.1;
        Some(block)
    })
}

/// Where the block of a job may begin, the largest first. At each place before the one where it does, a smaller block
/// begins.
pub(super) fn places_of(index: JobIndex) -> impl Iterator<Item = JobIndex> {
    let mut last = None;
    (0..=BLOCK_JOBS.ilog2())
        .rev()
        .map(move |bits| index >> bits << bits)
        .filter(move |&place| last.replace(place) != Some(place))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn blocks_are_aligned_and_leave_nothing_out() {
        for (first, jobs, expected) in [
            (0, 0, vec![]),
            (0, 1, vec![(0, 1)]),
            (0, 1024, vec![(0, 1024)]),
            (1024, 2048, vec![(1024, 1024), (2048, 1024)]),
            (0, 1000, vec![(0, 512), (512, 256), (768, 128), (896, 64), (960, 32), (992, 8)]),
            (3, 6, vec![(3, 1), (4, 4), (8, 1)]),
            (u64::MAX - 1, 5, vec![(u64::MAX - 1, 1)]),
        ] {
            assert_eq!(blocks(first, jobs).collect::<Vec<_>>(), expected, "{jobs} from {first}");
        }
    }

    #[test]
    fn every_job_is_found_whatever_the_pages_were() {
        for sizes in [vec![1], vec![1024], vec![1000], vec![7, 300, 1, 1024, 64], vec![1, 2, 3], vec![5000]] {
            let (mut stored, mut listed) = (BTreeMap::new(), 0);
            for size in sizes.into_iter().cycle() {
                stored.extend(blocks(listed, size));
                listed += size;
                if listed > 6000 {
                    break;
                }
            }
            for index in 0..listed {
                let found = places_of(index).find(|place| index < place + stored[place]);
                assert!(found.is_some() && places_of(index).count() <= 11, "{index}");
            }
        }
    }
}
