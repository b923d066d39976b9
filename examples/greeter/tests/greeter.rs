//! The handler by itself, and within its workflow. Nothing has to run beside these tests.

use greeter::{Input, Output, handle, handlers};
use phasework_sdk::HandlerError;
use phasework_sdk::testing::{TestContext, TestError, TestRun};
use serde_json::json;

const WORKFLOW: &str = include_str!("../workflow.json");

#[tokio::test]
async fn it_does_its_job() {
    let call = TestContext::new("Greeter").call(handle, &Input { name: "Ada".into() }).await;
    assert_eq!(call.output::<Output>().greeting, "Hello Ada");
    assert_eq!(call.progress(), [50]);
}

#[tokio::test]
async fn it_refuses_what_it_cannot_do() {
    let call = TestContext::new("Greeter").call(handle, &json!({ "name": "" })).await;
    assert_eq!((call.error().message.as_str(), call.error().retry), ("nobody to greet", false));
    let call = TestContext::new("Greeter").call(handle, &json!({ "name": 7 })).await;
    assert!(call.error().message.contains("name: invalid type"), "{}", call.error().message);
}

#[tokio::test]
async fn its_workflow_succeeds_although_it_fails_at_first() -> Result<(), TestError> {
    let run = TestRun::of(WORKFLOW).data(&json!({ "names": ["Ada", "Alan"] })).handler("Greeter", "0.1.0", handle);
    let run = run.failing(2, HandlerError::retry("not awake yet")).run().await?;
    assert_eq!((run.state(), run.phases()), ("succeeded", vec!["greeting", "finished"]));
    assert_eq!(run.output::<Vec<Output>>()[1].greeting, "Hello Alan");
    Ok(())
}

#[tokio::test]
async fn its_workflow_fails_when_it_does() -> Result<(), TestError> {
    let run = TestRun::of(WORKFLOW).data(&json!({ "names": ["Ada", ""] })).worker(handlers).run().await?;
    assert_eq!((run.state(), run.phases()), ("failed", vec!["greeting", "failed"]));
    Ok(())
}
