//! What goes in and comes out: names, inputs and outputs, as they are.

use phasework_workflows::Payload;
use phasework_workflows::message::Body as _;
use phasework_workflows::message::encode;
use phasework_workflows::message::job::{InputSource, JobGroup, Jobs};
use phasework_workflows::message::outcome::Status;
use serde_json::{Value, json};

use super::check::{KEPT, Kept};
use super::heard::Told;
use super::stage::{Asked, Fault, QUEUES, SOON, Stage, job};

/// What a done job gave.
pub(super) fn output(told: &Told) -> Result<Value, Fault> {
    match (told.outcome.status, &told.outcome.output) {
        (Status::Done, output) => Ok(output.as_ref().map_or(Value::Null, Payload::to_value)),
        (status, _) => {
            let error = told.outcome.error.as_ref().map(|error| format!(": {} ({})", error.message, error.kind));
            Err(format!("job {} is {status:?}, not done{}", told.outcome.index, error.unwrap_or_default()))
        }
    }
}

fn expect(told: &Told, expected: &Value) -> Result<(), Fault> {
    let found = output(told)?;
    if found == *expected { Ok(()) } else { Err(format!("job {} gave {found}, not {expected}", told.outcome.index)) }
}

async fn echoes(stage: &Stage, value: Value) -> Result<(), Fault> {
    let told = stage.answer(&json!({ "do": "echo", "value": value })).await?;
    expect(&told, &value)
}

pub(super) async fn echo(stage: &mut Stage) -> Kept {
    // A late job, tried often.
    let mut group = stage.group();
    let (index, attempt) = (4_000_000_000, 2_000_000_000);
    group.jobs.push(job(index, attempt, &json!({ "do": "echo", "value": { "it": "works" } })));
    let asked = stage.send(vec![group]).await?.remove(0);
    expect(&stage.told(&asked, index, SOON).await?, &json!({ "it": "works" }))?;
    // Jobs without output, of which it may be said together that they are done.
    let mut group = stage.group();
    (group.data, group.range) = (Payload::of(&json!({ "do": "echo", "value": null })).ok(), Some((10, 20)));
    let asked = stage.send(vec![group]).await?.remove(0);
    for index in 10..30 {
        expect(&stage.told(&asked, index, SOON).await?, &Value::Null)?;
    }
    KEPT
}

pub(super) async fn unicode(stage: &mut Stage) -> Kept {
    let texts = [
        "naïve Sturmschwalbe",
        "燕鷗",
        "طائر النوء",
        "🐧🏳️‍🌈",
        "e\u{301}",
        "a\u{0}b\u{1f}\u{7f}\"\\/\n",
        "\u{feff}bom",
        "\u{2028}",
    ];
    echoes(stage, json!(texts)).await?;
    echoes(stage, json!({ "ключ": "значение", "": "an empty key", "a b": null, "__proto__": 1 })).await?;
    KEPT
}

pub(super) async fn big_numbers(stage: &mut Stage) -> Kept {
    let max = (1_i64 << 53) - 1;
    echoes(stage, json!([max, -max, 0, -1, 0.1, 1.5e300, -2.5e-300, 1e21])).await?;
    // Beyond that it is the language's affair; but the author should know.
    let beyond = json!([i64::MIN, u64::MAX]);
    let told = stage.answer(&json!({ "do": "echo", "value": beyond })).await?;
    let found = output(&told)?;
    let note = format!("whole numbers beyond 2^53 change in it: {beyond} came back as {found}");
    Ok((found != beyond).then_some(note))
}

pub(super) async fn inputs(stage: &mut Stage) -> Kept {
    let data = json!({ "query": "puffin" });
    let mut by_index = stage.group();
    (by_index.input, by_index.range) = (InputSource::Index, Some((7, 3)));
    let mut by_data = stage.group();
    (by_data.data, by_data.range) = (Payload::of(&data).ok(), Some((0, 1)));
    by_data.jobs.push(job(1, 1, &Value::Null));
    let asked = stage.send(vec![by_index, by_data]).await?;
    for index in 7..10 {
        expect(&stage.told(&asked[0], index, SOON).await?, &json!({ "input": index, "data": null }))?;
    }
    expect(&stage.told(&asked[1], 0, SOON).await?, &json!({ "input": data, "data": data }))?;
    let told = stage.told(&asked[1], 1, SOON).await?;
    expect(&told, &json!({ "input": null, "data": data }))
        .map_err(|fault| format!("of an input that is null: {fault}"))?;
    KEPT
}

pub(super) async fn groups(stage: &mut Stage) -> Kept {
    let group = |queue| JobGroup { coordinator: queue, ..stage.order(&json!({ "do": "echo", "value": queue })) };
    let asked: Vec<Asked> = stage.send((0..QUEUES).map(group).collect()).await?;
    for (queue, asked) in asked.iter().enumerate() {
        expect(&stage.told(asked, 0, SOON).await?, &json!(queue))?;
    }
    KEPT
}

pub(super) async fn unknown_fields(stage: &mut Stage) -> Kept {
    let group = stage.order(&json!({ "do": "echo", "value": "new" }));
    let asked = Asked { group: group.clone(), from: stage.heard.so_far() };
    let mut body: Value =
        serde_json::from_slice(&encode(&Jobs { groups: vec![group] })).expect("what we wrote is JSON");
    let new = json!({ "a": [1, { "b": null }] });
    body["new"] = new.clone();
    body["groups"][0]["new"] = new.clone();
    body["groups"][0]["jobs"][0]["new"] = new;
    stage.publish(phasework_broker::Message::new(stage.queue(), Jobs::KIND, body.to_string())).await?;
    expect(&stage.told(&asked, 0, SOON).await?, &json!("new"))?;
    KEPT
}
