//! Where a handler panicked. Catching a panic gives its message only; its place is known to the panic hook alone.

use std::any::Any;
use std::cell::RefCell;
use std::panic;
use std::sync::Once;

thread_local! {
    static LAST_PLACE: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Has the place of every panic remembered from now on, and then handled as before. Once for the whole program.
pub(crate) fn remember_places() {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            LAST_PLACE.set(info.location().map(ToString::to_string));
            before(info);
        }));
    });
}

/// What a panic that was just caught on this thread said, and where.
pub(crate) fn describe(caught: &(dyn Any + Send)) -> String {
    let message =
        caught.downcast_ref::<&str>().copied().or_else(|| caught.downcast_ref::<String>().map(String::as_str));
    let message = message.unwrap_or("a panic without a message");
    match LAST_PLACE.take() {
        Some(place) => format!("{message} (at {place})"),
        None => message.to_owned(), // somebody replaced the hook
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_tells_its_message_and_place() {
        remember_places();
        let caught = panic::catch_unwind(|| panic!("page {} is missing", 7)).unwrap_err();
        let text = describe(&*caught);
        assert!(text.starts_with("page 7 is missing (at ") && text.contains("panics.rs:"), "{text}");
    }
}
