//! `/v1/runs/{id}/history`: what happened to a run.

use axum::extract::State;
use axum::routing::get;
use axum::{Json as Answer, Router};
use phasework_workflows::Version;
use phasework_workflows::id::{Attempt, EntryNo, HandlerName, PhaseName, Revision};
use phasework_workflows::message::event::PhaseStatus;
use phasework_workflows::run::{HandlerTally, HistoryEvent, HistoryKind, LostWhy, RunState};
use phasework_workflows::time::Timestamp;
use serde::{Deserialize, Serialize};

use super::Api;
use super::error::ApiError;
use super::extract::{Params, RunOfPath, page_length};
use super::view::CauseView;

/// The most events on a page.
const MAX_PAGE: usize = 1000;

pub(super) fn routes() -> Router<Api> {
    Router::new().route("/v1/runs/{id}/history", get(list))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct HistoryQuery {
    after: Option<u64>,
    limit: Option<usize>,
}

#[derive(Serialize)]
struct EventsView {
    events: Vec<HistoryView>,
    next: Option<u64>,
}

async fn list(
    State(api): State<Api>,
    RunOfPath(run): RunOfPath,
    Params(query): Params<HistoryQuery>,
) -> Result<Answer<EventsView>, ApiError> {
    let limit = page_length(query.limit, 200, MAX_PAGE)?;
    let mut events = api.engine.history(run, query.after.unwrap_or(0), limit + 1).await?;
    if events.is_empty() {
        api.engine.run(run).await?; // no events, or no run
    }
    let more = events.len() > limit;
    events.truncate(limit);
    let next = events.last().filter(|_| more).map(|last| last.n);
    Ok(Answer(EventsView { events: events.into_iter().map(HistoryView::from).collect(), next }))
}

/// Something that happened to a run.
#[derive(Debug, Serialize)]
struct HistoryView {
    n: u64,
    at: Timestamp,
    /// Who brought it about; left out where that was not written down.
    #[serde(skip_serializing_if = "Option::is_none")]
    actor: Option<String>,
    #[serde(flatten)]
    what: WhatView,
}

#[derive(Debug, Serialize)]
#[serde(tag = "what", rename_all = "kebab-case")]
enum WhatView {
    Started {
        revision: Revision,
    },
    Entered {
        entry: EntryNo,
        phase: PhaseName,
        #[serde(skip_serializing_if = "Option::is_none")]
        from: Option<PhaseName>,
        on_error: bool,
    },
    Pinned {
        entry: EntryNo,
        handler: HandlerName,
        version: Version,
    },
    Listed {
        entry: EntryNo,
        handler: HandlerName,
        attempt: Attempt,
        jobs: u64,
    },
    Finished {
        entry: EntryNo,
        status: PhaseStatus,
        handlers: Vec<TallyView>,
    },
    Halted {
        error: CauseView,
    },
    Lost {
        entry: EntryNo,
        handler: HandlerName,
        jobs: u64,
        /// Whether it is the making of their list.
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        list: bool,
        why: LostWhy,
    },
    Paused {
        #[serde(skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
    },
    Resumed {
        #[serde(skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
    },
    Retried {
        entry: EntryNo,
        jobs: u64,
        #[serde(skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
    },
    Canceling {
        deadline: Timestamp,
        #[serde(skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
    },
    Abandoned {
        entry: EntryNo,
        handlers: Vec<TallyView>,
    },
    Rerun {
        phase: PhaseName,
        #[serde(skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
    },
    Ended {
        state: RunState,
        #[serde(skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
    },
}

impl From<HistoryEvent> for HistoryView {
    fn from(event: HistoryEvent) -> Self {
        let actor = event.actor().map(str::to_owned);
        let what = match event.what {
            HistoryKind::Started { revision } => WhatView::Started { revision },
            HistoryKind::Entered { entry, phase, from, on_error, nonce: _ } => {
                WhatView::Entered { entry, phase, from, on_error }
            }
            HistoryKind::Pinned { entry, handler, version } => WhatView::Pinned { entry, handler, version },
            HistoryKind::Listed { entry, handler, attempt, jobs } => WhatView::Listed { entry, handler, attempt, jobs },
            HistoryKind::Finished { entry, status, handlers } => {
                let handlers = handlers.into_iter().map(TallyView::from).collect();
                WhatView::Finished { entry, status, handlers }
            }
            HistoryKind::Halted { cause } => WhatView::Halted { error: CauseView::from(&cause) },
            HistoryKind::Lost { entry, handler, jobs, list, why } => WhatView::Lost { entry, handler, jobs, list, why },
            HistoryKind::Paused { reason } => WhatView::Paused { reason },
            HistoryKind::Resumed { reason } => WhatView::Resumed { reason },
            HistoryKind::Retried { entry, jobs, reason } => WhatView::Retried { entry, jobs, reason },
            HistoryKind::Canceling { deadline, reason } => WhatView::Canceling { deadline, reason },
            HistoryKind::Abandoned { entry, handlers } => {
                let handlers = handlers.into_iter().map(TallyView::from).collect();
                WhatView::Abandoned { entry, handlers }
            }
            HistoryKind::Rerun { phase, reason } => WhatView::Rerun { phase, reason },
            HistoryKind::Ended { state, reason } => WhatView::Ended { state, reason },
        };
        Self { n: event.n, at: event.at, actor, what }
    }
}

/// What a handler came to within an entry.
#[derive(Debug, Serialize)]
struct TallyView {
    name: HandlerName,
    #[serde(skip_serializing_if = "Option::is_none")]
    total: Option<u64>,
    done: u64,
    failed: u64,
    retried: u64,
}

impl From<HandlerTally> for TallyView {
    fn from(tally: HandlerTally) -> Self {
        let HandlerTally { handler, total, done, failed, retried, digest: _ } = tally;
        Self { name: handler, total, done, failed, retried }
    }
}
