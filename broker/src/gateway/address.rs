//! Addresses as text: what stands in the gateway's requests. The names of queues and exchanges without their prefix, as
//! `docs/wire-format.md` lists them.

use crate::Address;

/// An address as text.
#[must_use]
pub fn text(address: &Address) -> String {
    match address {
        Address::Jobs(queue) => format!("jobs.{queue}"),
        Address::Coordinator(number) => format!("coordinator.{number}"),
        Address::Submit => "submit".to_owned(),
        Address::Dead => "dead".to_owned(),
        Address::Marker(id) => format!("marker.{id}"),
        Address::Private(name) => name.to_string(),
        Address::Events(key) => format!("events.{key}"),
        Address::Control => "control".to_owned(),
        Address::Presence => "presence".to_owned(),
    }
}

/// The address that a text means.
///
/// # Errors
/// What is wrong with it, in words.
pub fn read(text: &str) -> Result<Address, String> {
    let known = match text.split_once('.') {
        Some(("jobs", queue)) if !queue.is_empty() => Some(Address::Jobs(queue.into())),
        Some(("coordinator", number)) => number.parse().ok().map(Address::Coordinator),
        Some(("marker", id)) if !id.is_empty() => Some(Address::Marker(id.into())),
        Some(("events", key)) => Some(Address::Events(key.into())),
        Some(("jobs" | "marker" | "submit" | "dead" | "control" | "presence", _)) => None,
        Some((owner, id)) if !owner.is_empty() && !id.is_empty() => Some(Address::Private(text.into())),
        Some(_) => None,
        None => match text {
            "submit" => Some(Address::Submit),
            "dead" => Some(Address::Dead),
            "control" => Some(Address::Control),
            "presence" => Some(Address::Presence),
            _ => None,
        },
    };
    known.ok_or_else(|| {
        format!(
            "`{text}` is no address; there are `jobs.<queue>`, `coordinator.<number>`, `worker.<id>`, `events.<key>`, \
             `control`, `presence`, `submit` and `dead`"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_written_and_read() {
        for (address, expected) in [
            (Address::Jobs("Pages.1.2.0".into()), "jobs.Pages.1.2.0"),
            (Address::Coordinator(7), "coordinator.7"),
            (Address::Submit, "submit"),
            (Address::Dead, "dead"),
            (Address::Marker("a1".into()), "marker.a1"),
            (Address::Private("worker.1".into()), "worker.1"),
            (Address::Private("client.a.b".into()), "client.a.b"),
            (Address::Events("run.finished.*".into()), "events.run.finished.*"),
            (Address::Events("".into()), "events."),
            (Address::Control, "control"),
            (Address::Presence, "presence"),
        ] {
            assert_eq!(text(&address), expected);
            assert_eq!(read(expected), Ok(address));
        }
        for wrong in
            ["", "jobs", "jobs.", "coordinator.x", "coordinator.70000", "marker.", "worker.", ".x", "events", "dead.x"]
        {
            assert!(read(wrong).is_err_and(|words| words.contains(wrong)), "{wrong}");
        }
    }
}
