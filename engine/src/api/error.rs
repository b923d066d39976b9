//! The one error envelope, and the one place that turns an error into a status code. Never shows what a caller can do
//! nothing with: causes go to the log.

use axum::Json;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use phasework_broker::gateway::wire::NO_SESSION;
use phasework_workflows::definition::{Problem, Problems, Severity};
use phasework_workflows::id::NameError;
use serde::Serialize;

use crate::engine::EngineError;

/// After how many seconds an unavailable engine is worth asking again.
const RETRY_AFTER: HeaderValue = HeaderValue::from_static("1");

/// A request that was not carried out.
#[derive(Debug)]
pub(super) struct ApiError(Box<Refusal>);

#[derive(Debug)]
struct Refusal {
    status: StatusCode,
    body: ErrorView,
    header: Option<(HeaderName, HeaderValue)>,
}

#[derive(Debug, Serialize)]
struct Envelope {
    error: ErrorView,
}

#[derive(Debug, Serialize)]
struct ErrorView {
    code: &'static str,
    message: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    problems: Vec<ProblemView>,
    #[serde(skip_serializing_if = "Option::is_none")]
    omitted: Option<usize>,
}

/// One thing that is wrong with what was sent, and where.
#[derive(Debug, Serialize)]
pub(super) struct ProblemView {
    pointer: String,
    line: usize,
    column: usize,
    /// Just behind it, when it has an extent.
    #[serde(skip_serializing_if = "Option::is_none")]
    end: Option<PositionView>,
    message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<String>,
    /// Only said of what does no harm.
    #[serde(skip_serializing_if = "is_error")]
    severity: Severity,
}

#[derive(Debug, Serialize)]
struct PositionView {
    line: usize,
    column: usize,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the shape that serde asks for")]
fn is_error(severity: &Severity) -> bool {
    *severity == Severity::Error
}

impl From<&Problem> for ProblemView {
    fn from(problem: &Problem) -> Self {
        Self {
            pointer: problem.pointer.clone(),
            line: problem.line,
            column: problem.column,
            end: problem.end.map(|end| PositionView { line: end.line, column: end.column }),
            message: problem.message.clone(),
            hint: problem.hint.clone(),
            severity: problem.severity,
        }
    }
}

impl ApiError {
    fn new(status: StatusCode, code: &'static str, message: String) -> Self {
        let body = ErrorView { code, message, problems: Vec::new(), omitted: None };
        Self(Box::new(Refusal { status, body, header: None }))
    }

    fn with_header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.0.header = Some((name, value));
        self
    }

    /// What was sent cannot be read.
    pub(super) fn malformed(message: String) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "malformed", message)
    }

    /// The body is no JSON, or JSON of another shape.
    pub(super) fn malformed_json(error: &serde_json::Error) -> Self {
        let (line, column) = (error.line(), error.column());
        let whole = error.to_string();
        let message = whole.strip_suffix(&format!(" at line {line} column {column}")).unwrap_or(&whole).to_owned();
        let mut refused = Self::malformed(format!("the body cannot be read: line {line}, column {column}: {message}"));
        let (pointer, end, hint, severity) = (String::new(), None, None, Severity::Error);
        refused.0.body.problems.push(ProblemView { pointer, line, column, end, message, hint, severity });
        refused
    }

    /// What was sent can be read, but cannot be.
    pub(super) fn invalid(message: String) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid", message)
    }

    pub(super) fn unauthorized(message: String) -> Self {
        let challenge = HeaderValue::from_static("Bearer");
        Self::new(StatusCode::UNAUTHORIZED, "unauthorized", message).with_header(header::WWW_AUTHENTICATE, challenge)
    }

    pub(super) fn forbidden(message: String) -> Self {
        Self::new(StatusCode::FORBIDDEN, "forbidden", message)
    }

    pub(super) fn not_found(message: String) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not-found", message)
    }

    /// The session of the gateway that is asked about has ended, or never was.
    pub(super) fn no_session(message: String) -> Self {
        Self::new(StatusCode::NOT_FOUND, NO_SESSION, message)
    }

    /// The broker refuses, or something else is there already.
    pub(super) fn refused(message: String) -> Self {
        Self::new(StatusCode::CONFLICT, "refused", message)
    }

    /// There are as many as there may be.
    pub(super) fn too_many(message: String) -> Self {
        Self::new(StatusCode::TOO_MANY_REQUESTS, "too-many", message).with_header(header::RETRY_AFTER, RETRY_AFTER)
    }

    pub(super) fn method_not_allowed(message: String) -> Self {
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "method-not-allowed", message)
    }

    /// The caller did not send its request in time.
    pub(super) fn timeout(message: String) -> Self {
        Self::new(StatusCode::REQUEST_TIMEOUT, "timeout", message)
    }

    pub(super) fn too_large(message: String) -> Self {
        // The rest of the request is not read, so nothing more can come over this connection.
        let close = HeaderValue::from_static("close");
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "too-large", message).with_header(header::CONNECTION, close)
    }

    pub(super) fn internal(message: String) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", message)
    }

    pub(super) fn unavailable(message: String) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", message).with_header(header::RETRY_AFTER, RETRY_AFTER)
    }

    fn invalid_definition(message: String, problems: &Problems) -> Self {
        let mut refused = Self::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid-definition", message);
        refused.0.body.problems = problems.iter().map(ProblemView::from).collect();
        refused.0.body.omitted = Some(problems.omitted).filter(|&omitted| omitted > 0);
        refused
    }
}

impl From<EngineError> for ApiError {
    fn from(error: EngineError) -> Self {
        let message = error.to_string();
        match error {
            EngineError::NotFound(_) => Self::not_found(message),
            EngineError::Invalid(_) => Self::invalid(message),
            EngineError::InvalidDefinition(problems) => Self::invalid_definition(message, &problems),
            EngineError::TooLarge { .. } => Self::new(StatusCode::PAYLOAD_TOO_LARGE, "too-large", message),
            EngineError::Damaged(_) => Self::new(StatusCode::INTERNAL_SERVER_ERROR, "damaged", message),
            EngineError::Unavailable(_) => Self::unavailable(message),
        }
    }
}

impl From<NameError> for ApiError {
    fn from(error: NameError) -> Self {
        Self::invalid(error.to_string())
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let Refusal { status, body, header } = *self.0;
        let mut response = (status, Json(Envelope { error: body })).into_response();
        if let Some((name, value)) = header {
            response.headers_mut().insert(name, value);
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_engine_error_has_a_status_and_a_code() {
        let too_large = EngineError::TooLarge { what: "run data", size: 9, limit: 5 };
        let problems = Problems { problems: Vec::new(), omitted: 3 };
        for (error, status, code) in [
            (EngineError::NotFound("x".into()), 404, "not-found"),
            (EngineError::Invalid("x".into()), 400, "invalid"),
            (EngineError::InvalidDefinition(problems), 422, "invalid-definition"),
            (too_large, 413, "too-large"),
            (EngineError::Damaged("x".into()), 500, "damaged"),
            (EngineError::Unavailable("x".into()), 503, "unavailable"),
        ] {
            let message = error.to_string();
            let refused = ApiError::from(error).0;
            assert_eq!((refused.status.as_u16(), refused.body.code), (status, code));
            assert_eq!(refused.body.message, message);
            assert_eq!(refused.header.is_some(), status == 503, "only 503 says when to come back");
        }
    }

    #[test]
    fn malformed_json_says_where() {
        let error = serde_json::from_str::<serde_json::Value>("{\n  \"a\": x}").unwrap_err();
        let refused = ApiError::malformed_json(&error).0.body;
        assert_eq!(refused.message, "the body cannot be read: line 2, column 8: expected value");
        assert_eq!((refused.problems[0].line, refused.problems[0].column), (2, 8));
        assert_eq!(refused.problems[0].message, "expected value");
    }
}
