//! Submits runs and waits for them, over a coordinator's HTTP API. Hosts no handlers and sees no broker.

mod order;

use std::fmt;
use std::future::Future;
use std::time::Duration;

use phasework_workflows::Payload;
use phasework_workflows::id::RunId;
use phasework_workflows::time::Millis;
use reqwest::{Method, RequestBuilder, StatusCode, Url};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep};

use crate::trace;

pub use self::order::{Order, Ordered};

/// How long a coordinator may take to answer, besides the time it is asked to wait.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(15);

/// The longest wait that is asked for in one request.
const LONGEST_POLL: Duration = Duration::from_secs(30);

/// The wait before a request is made again.
const RETRY_WAIT: Duration = Duration::from_millis(500);

/// How often a submission with a key is made before the coordinator counts as unavailable.
const SUBMIT_TRIES: u32 = 3;

/// Talks to a coordinator.
#[derive(Clone)]
pub struct Client {
    http: reqwest::Client,
    base: Url,
    token: Option<String>,
}

/// Why a coordinator did not do what it was asked.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ClientError {
    /// It cannot be reached, or cannot serve now. What was asked for may or may not have been done; ask again, a
    /// submission with the same key.
    #[error("the coordinator is not available: {0}")]
    Unavailable(String),
    /// It refused, and will refuse again.
    #[error("{message} ({code}){}", .problems.iter().map(|problem| format!("\n  {problem}")).collect::<String>())]
    Refused {
        /// The HTTP status.
        status: u16,
        /// What is wrong, as one word: `unknown-workflow`, `invalid-definition`, `unknown-run`…
        code: String,
        /// In words.
        message: String,
        /// Every problem found, one a line.
        problems: Vec<String>,
    },
    /// What is asked for, or what was answered, makes no sense.
    #[error("{0}")]
    Malformed(String),
    /// The run had not ended when the time was over.
    #[error("run {} is still {} in phase `{}`", .0.run, .0.state, .0.phase)]
    NotEnded(Box<RunView>),
    /// The run did not succeed.
    #[error("run {} is {} in phase `{}`{}", .0.run, .0.state, .0.phase, .0.reason())]
    NotSucceeded(Box<RunView>),
}

/// A run to start.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Submission {
    #[serde(skip_serializing_if = "Option::is_none")]
    workflow: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    revision: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    definition: Option<Payload>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<Payload>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    #[serde(skip)]
    problem: Option<String>,
}

impl Submission {
    /// A run of a stored workflow.
    pub fn of(workflow: &str) -> Self {
        Self { workflow: Some(workflow.to_owned()), ..Self::default() }
    }

    /// A run of this definition, which is stored.
    pub fn define(definition: &impl Serialize) -> Self {
        let mut submission = Self::default();
        submission.definition = submission.payload("definition", definition);
        submission
    }

    /// Of this revision of the workflow, in place of the latest.
    #[must_use]
    pub fn revision(mut self, revision: &str) -> Self {
        self.revision = Some(revision.to_owned());
        self
    }

    /// With this data.
    #[must_use]
    pub fn data(mut self, data: &(impl Serialize + ?Sized)) -> Self {
        self.data = self.payload("data", data);
        self
    }

    /// Makes the submission safe to repeat: one run for each workflow and key.
    #[must_use]
    pub fn key(mut self, key: &str) -> Self {
        self.key = Some(key.to_owned());
        self
    }

    fn payload(&mut self, what: &str, value: &(impl Serialize + ?Sized)) -> Option<Payload> {
        Payload::of(value)
            .map_err(|error| self.problem = Some(format!("the {what} cannot be written as JSON: {error}")))
            .ok()
    }
}

/// The answer to a submission.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Submitted {
    /// The run.
    pub run: RunId,
    /// Whether this submission made it; not so when one with the same key was there before.
    pub created: bool,
    /// The state it is in.
    pub state: String,
}

/// A run as the coordinator shows it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct RunView {
    /// The run.
    pub run: RunId,
    /// Its workflow.
    pub workflow: String,
    /// The revision of the workflow.
    pub revision: String,
    /// `running`, `halted`, `paused`, `canceling`, `succeeded`, `failed` or `canceled`.
    pub state: String,
    /// The phase it is in.
    pub phase: String,
    /// Its result, once it has one.
    #[serde(default)]
    pub output: Option<Payload>,
    /// Why it failed or halted.
    #[serde(default)]
    pub error: Option<Payload>,
}

impl RunView {
    /// Whether nothing changes any more.
    pub fn has_ended(&self) -> bool {
        matches!(self.state.as_str(), "succeeded" | "failed" | "canceled")
    }

    /// Whether it goes on only when somebody sees to it.
    pub fn is_halted(&self) -> bool {
        self.state == "halted"
    }

    /// Reads its result.
    ///
    /// # Errors
    /// When it has not succeeded, or its result has another shape.
    pub fn result<T: DeserializeOwned>(&self) -> Result<T, ClientError> {
        if self.state != "succeeded" {
            return Err(ClientError::NotSucceeded(Box::new(self.clone())));
        }
        let output = self.output.clone().unwrap_or_else(Payload::null);
        output.read().map_err(|error| ClientError::Malformed(format!("the output of run {}: {error}", self.run)))
    }

    fn reason(&self) -> String {
        let told = self.error.as_ref().filter(|error| !error.is_null()).map(Payload::to_value);
        told.map(|error| match error.get("message").unwrap_or(&error) {
            serde_json::Value::String(message) => format!(": {message}"),
            other => format!(": {other}"),
        })
        .unwrap_or_default()
    }
}

impl Client {
    /// A client of the coordinator at `url`, such as `http://127.0.0.1:7180`.
    ///
    /// # Errors
    /// When that is no HTTP address.
    pub fn new(url: &str) -> Result<Self, ClientError> {
        let mut base = Url::parse(url).map_err(|error| ClientError::Malformed(format!("`{url}`: {error}")))?;
        if !matches!(base.scheme(), "http" | "https") {
            return Err(ClientError::Malformed(format!("`{url}` is no HTTP address, such as http://127.0.0.1:7180")));
        }
        if !base.path().ends_with('/') {
            base.set_path(&format!("{}/", base.path()));
        }
        // The program may have installed a provider of its own, which is as good.
        rustls::crypto::ring::default_provider().install_default().ok();
        let http = reqwest::Client::builder().connect_timeout(Duration::from_secs(5)).build();
        let http = http.map_err(|error| ClientError::Malformed(format!("cannot set up TLS: {error}")))?;
        Ok(Self { http, base, token: None })
    }

    /// Sends `token` with every request.
    #[must_use]
    pub fn with_token(mut self, token: &str) -> Self {
        self.token = Some(token.to_owned());
        self
    }

    /// Starts a run. With a key, a submission that got no answer is repeated.
    ///
    /// # Errors
    /// When the coordinator is not available or refuses, or the data is no JSON.
    pub async fn submit(&self, submission: &Submission) -> Result<Submitted, ClientError> {
        if let Some(problem) = &submission.problem {
            return Err(ClientError::Malformed(problem.clone()));
        }
        let mut tries = if submission.key.is_some() { SUBMIT_TRIES } else { 1 };
        let may_try_again = || {
            tries -= 1;
            tries > 0
        };
        repeat(may_try_again, || async { self.ask(self.request(Method::POST, "v1/runs")?.json(submission)).await })
            .await
    }

    /// The run as it is now.
    ///
    /// # Errors
    /// When the coordinator is not available or does not know it.
    pub async fn run(&self, run: RunId) -> Result<RunView, ClientError> {
        self.ask(self.request(Method::GET, &format!("v1/runs/{run}"))?).await
    }

    /// Waits until the run has ended, or halts; also through a pause.
    ///
    /// # Errors
    /// [`ClientError::NotEnded`] when it has not within `timeout`.
    pub async fn wait(&self, run: RunId, timeout: Duration) -> Result<RunView, ClientError> {
        let until = Instant::now() + timeout;
        loop {
            let view: RunView = repeat(|| Instant::now() < until, || self.poll(run, until)).await?;
            if view.has_ended() || view.is_halted() {
                return Ok(view);
            }
            if Instant::now() >= until {
                return Err(ClientError::NotEnded(Box::new(view)));
            }
        }
    }

    async fn poll(&self, run: RunId, until: Instant) -> Result<RunView, ClientError> {
        let wait = until.saturating_duration_since(Instant::now()).min(LONGEST_POLL);
        let request = self.request(Method::GET, &format!("v1/runs/{run}"))?.timeout(wait + ANSWER_TIMEOUT);
        self.ask(request.query(&[("wait", Millis::from(wait).to_string())])).await
    }

    /// Starts a run, waits until it has succeeded, and reads its result.
    ///
    /// # Errors
    /// [`ClientError::NotSucceeded`] when it ended otherwise or halted; and as [`Client::submit`] and [`Client::wait`].
    pub async fn submit_and_wait<T: DeserializeOwned>(
        &self,
        submission: &Submission,
        timeout: Duration,
    ) -> Result<T, ClientError> {
        let run = self.submit(submission).await?.run;
        self.wait(run, timeout).await?.result()
    }

    fn request(&self, method: Method, path: &str) -> Result<RequestBuilder, ClientError> {
        let url = self.base.join(path).map_err(|error| ClientError::Malformed(error.to_string()))?;
        let mut request = self.http.request(method, url).timeout(ANSWER_TIMEOUT);
        if let Some(here) = trace::current() {
            request = request.header(trace::TRACEPARENT, here);
        }
        Ok(match &self.token {
            Some(token) => request.bearer_auth(token),
            None => request,
        })
    }

    async fn ask<T: DeserializeOwned>(&self, request: RequestBuilder) -> Result<T, ClientError> {
        let unavailable = |error: reqwest::Error| ClientError::Unavailable(crate::error::whole_message(&error));
        let answer = request.send().await.map_err(unavailable)?;
        let status = answer.status();
        let body = answer.bytes().await.map_err(unavailable)?;
        if status.is_success() {
            return serde_json::from_slice(&body)
                .map_err(|error| ClientError::Malformed(format!("the coordinator's answer cannot be read: {error}")));
        }
        Err(refusal(status, &body))
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Client({})", self.base) // not the token
    }
}

/// Asks again, after a wait, while the coordinator is not available and there is reason to.
async fn repeat<T, Asked>(mut may_try_again: impl FnMut() -> bool, ask: impl Fn() -> Asked) -> Result<T, ClientError>
where
    Asked: Future<Output = Result<T, ClientError>>,
{
    loop {
        match ask().await {
            Err(ClientError::Unavailable(cause)) if may_try_again() => {
                tracing::debug!(%cause, "asking the coordinator again");
                sleep(RETRY_WAIT).await;
            }
            answer => return answer,
        }
    }
}

/// What an answer that is no success says.
fn refusal(status: StatusCode, body: &[u8]) -> ClientError {
    #[derive(Deserialize)]
    struct Envelope {
        error: Told,
    }
    #[derive(Deserialize)]
    struct Told {
        code: String,
        message: String,
        #[serde(default)]
        problems: Vec<Problem>,
    }
    let told = serde_json::from_slice::<Envelope>(body).map(|envelope| envelope.error);
    if matches!(status, StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT) {
        return ClientError::Unavailable(told.map_or_else(|_| status.to_string(), |told| told.message));
    }
    let (code, message, problems) = match told {
        Ok(Told { code, message, problems }) => (code, message, problems.into_iter().map(Problem::line).collect()),
        Err(_) => ("http".to_owned(), format!("the coordinator answered {status}"), Vec::new()),
    };
    ClientError::Refused { status: status.as_u16(), code, message, problems }
}

/// One thing that is wrong with what was sent.
#[derive(Deserialize)]
struct Problem {
    line: usize,
    column: usize,
    message: String,
    hint: Option<String>,
}

impl Problem {
    fn line(self) -> String {
        let hint = self.hint.map(|hint| format!(" ({hint})")).unwrap_or_default();
        format!("line {}, column {}: {}{hint}", self.line, self.column, self.message)
    }
}
